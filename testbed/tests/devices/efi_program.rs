//! A program for UEFI that says one sentence and reports failure, so that the firmware goes on to what it would boot next.
//!
//! Sources: PE/COFF specification (headers), UEFI 2.10: 2.3.4 (calling convention), 4.3 (system table), 12.4 (text output).

const HEADERS: usize = 0x200;
const SECTION: u32 = 0x1000;
/// Offset of the optional header: 64 bytes for DOS, the signature, 20 bytes of file header.
const OPTIONAL: usize = 0x40 + 4 + 20;
const OPTIONAL_BYTES: u16 = 240;

/// What a machine boots as `EFI/BOOT/BOOTX64.EFI`.
pub fn saying(sentence: &str) -> Vec<u8> {
    let code = code(sentence);
    let code_bytes = code.len().next_multiple_of(512) as u32;
    let mut out = vec![0; HEADERS];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664_u16.to_le_bytes());
    put(0x46, &1_u16.to_le_bytes());
    put(0x54, &OPTIONAL_BYTES.to_le_bytes());
    // Executable, and may be loaded above 2 GiB.
    put(0x56, &0x22_u16.to_le_bytes());
    put(OPTIONAL, &0x20b_u16.to_le_bytes());
    let long = [
        (4, code_bytes),
        // Entry point and base of code.
        (16, SECTION),
        (20, SECTION),
        // Alignments in memory and in the file.
        (32, SECTION),
        (36, 512),
        // Sizes of the image and of the headers.
        (56, 2 * SECTION),
        (60, HEADERS as u32),
        // An EFI application.
        (68, 10),
        // Data directories, all empty.
        (108, 16),
    ];
    for (at, value) in long {
        put(OPTIONAL + at, &value.to_le_bytes());
    }
    let section = OPTIONAL + usize::from(OPTIONAL_BYTES);
    put(section, b".text");
    // Code, to be executed and read.
    for (at, value) in [(8, code_bytes), (12, SECTION), (16, code_bytes), (20, HEADERS as u32), (36, 0x6000_0020)] {
        put(section + at, &value.to_le_bytes());
    }
    out.extend(code);
    out.resize(HEADERS + code_bytes as usize, 0);
    out
}

fn code(sentence: &str) -> Vec<u8> {
    let mut code = vec![
        0x48, 0x83, 0xec, 0x28, // sub rsp, 0x28
        0x48, 0x8b, 0x4a, 0x40, // mov rcx, [rdx + 0x40]: the table's ConOut
        0x48, 0x8d, 0x15, 18, 0, 0, 0, // lea rdx, [rip + 18]: the sentence
        0xff, 0x51, 0x08, // call [rcx + 8]: its OutputString
    ];
    code.extend([0x48, 0xb8]); // mov rax, EFI_NOT_FOUND
    code.extend(0x8000_0000_0000_000e_u64.to_le_bytes());
    code.extend([0x48, 0x83, 0xc4, 0x28, 0xc3]); // add rsp, 0x28; ret
    code.extend(format!("{sentence}\r\n").encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    code
}
