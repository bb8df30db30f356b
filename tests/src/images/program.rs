//! Programs of a few bytes that stand in for ours: static ELF files for x86-64, without a library and without sections.
//!
//! Sources: System V ABI, AMD64 supplement (ELF header, program header); Linux' arch/x86/entry/syscalls/syscall_64.tbl.

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// Where the file is loaded to.
const BASE: u64 = 0x40_0000;

const WRITE: u32 = 1;
const OPEN: u32 = 2;
const PAUSE: u32 = 34;
const EXIT_GROUP: u32 = 231;

/// Ends at once.
pub fn exits(status: u8) -> Vec<u8> {
    elf(&[call(EXIT_GROUP), status_in_rdi(status), SYSCALL.to_vec()].concat(), &[])
}

/// Does nothing for ever.
pub fn hangs() -> Vec<u8> {
    elf(&pause_for_ever(), &[])
}

/// Writes `text` to the file, which must exist, and then does nothing for ever: `c` to `/proc/sysrq-trigger` makes the kernel panic, `1` to
/// a cgroup's `cgroup.freeze` stops what is in it.
pub fn writes(path: &str, text: &str) -> Vec<u8> {
    let data = [path.as_bytes(), b"\0", text.as_bytes()].concat();
    // Its length does not depend on the addresses.
    let code = |data_at: u64| {
        let (path_at, text_at) = (data_at, data_at + path.len() as u64 + 1);
        let open = [call(OPEN), load(RDI, path_at), load(RSI, 1), SYSCALL.to_vec()].concat();
        let write = [load(RSI, text_at), load(RDX, text.len() as u64), MOVE_RAX_TO_RDI.to_vec(), call(WRITE), SYSCALL.to_vec()].concat();
        [open, write, pause_for_ever()].concat()
    };
    let data_at = BASE + (HEADER_BYTES + PROGRAM_HEADER_BYTES + code(0).len()) as u64;
    elf(&code(data_at), &data)
}

/// The program with these bytes replaced by others of the same length, wherever they stand.
pub fn reworded(mut program: Vec<u8>, old: &[u8], new: &[u8]) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(old.len() == new.len(), "{old:?} and {new:?} differ in length");
    let places: Vec<usize> = program.windows(old.len()).enumerate().filter(|(_, part)| *part == old).map(|(at, _)| at).collect();
    anyhow::ensure!(!places.is_empty(), "it does not hold {:?}", String::from_utf8_lossy(old));
    places.iter().for_each(|place| program[*place..place + new.len()].copy_from_slice(new));
    Ok(program)
}

const SYSCALL: [u8; 2] = [0x0f, 0x05];
const MOVE_RAX_TO_RDI: [u8; 3] = [0x48, 0x89, 0xc7];
/// The second byte of `mov r64, imm64`.
const RDI: u8 = 0xbf;
const RSI: u8 = 0xbe;
const RDX: u8 = 0xba;

/// `mov eax, number`
fn call(number: u32) -> Vec<u8> {
    [&[0xb8][..], &number.to_le_bytes()].concat()
}

fn load(register: u8, value: u64) -> Vec<u8> {
    [&[0x48, register][..], &value.to_le_bytes()].concat()
}

fn status_in_rdi(status: u8) -> Vec<u8> {
    load(RDI, u64::from(status))
}

fn pause_for_ever() -> Vec<u8> {
    let body = [call(PAUSE), SYSCALL.to_vec()].concat();
    // jmp back over the body and the jump itself
    let back = -(body.len() as i8 + 2);
    [body, vec![0xeb, back as u8]].concat()
}

fn elf(code: &[u8], data: &[u8]) -> Vec<u8> {
    let headers = HEADER_BYTES + PROGRAM_HEADER_BYTES;
    let size = (headers + code.len() + data.len()) as u64;
    // 64 bits, little-endian, version 1, System V
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend(2_u16.to_le_bytes()); // executable
    out.extend(62_u16.to_le_bytes()); // x86-64
    out.extend(1_u32.to_le_bytes());
    out.extend((BASE + headers as u64).to_le_bytes()); // entry point
    out.extend((HEADER_BYTES as u64).to_le_bytes()); // program headers
    out.extend(0_u64.to_le_bytes()); // no sections
    out.extend(0_u32.to_le_bytes());
    for size in [HEADER_BYTES as u16, PROGRAM_HEADER_BYTES as u16, 1, 64, 0, 0] {
        out.extend(size.to_le_bytes());
    }
    out.extend(1_u32.to_le_bytes()); // to be loaded
    out.extend(5_u32.to_le_bytes()); // read and executed
    for value in [0, BASE, BASE, size, size, 0x1000] {
        out.extend(value.to_le_bytes());
    }
    out.extend(code);
    out.extend(data);
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;
    use crate::until::until;

    fn put(directory: &Path, program: &[u8]) -> PathBuf {
        let path = directory.join("program");
        fs::write(&path, program).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        path
    }

    /// The system call that it waits in.
    fn waits_in_pause(child: &Child) {
        until("pause", Duration::from_secs(20), || {
            let call = fs::read_to_string(format!("/proc/{}/syscall", child.id()))?;
            anyhow::ensure!(call.starts_with("34 "), "{call}");
            Ok(())
        })
        .expect("the program pauses");
    }

    #[test]
    fn a_word_is_replaced_wherever_it_stands() {
        assert_eq!(reworded(b"a v1 b v1 c".to_vec(), b"v1", b"v2").expect("both"), b"a v2 b v2 c");
        assert_eq!(reworded(b"a".to_vec(), b"v1", b"v2").unwrap_err().to_string(), "it does not hold \"v1\"");
        assert!(reworded(b"v1".to_vec(), b"v1", b"v10").is_err());
    }

    #[test]
    fn one_ends_with_its_status() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for status in [0, 3] {
            let ended = Command::new(put(directory.path(), &exits(status))).status().expect("it runs");
            assert_eq!(ended.code(), Some(i32::from(status)));
        }
    }

    #[test]
    fn one_writes_its_text_and_another_nothing_and_both_stay() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = directory.path().join("switch");
        fs::write(&file, "").expect("write");
        for (program, text) in [(hangs(), ""), (writes(file.to_str().expect("a path"), "1"), "1")] {
            let mut child = Command::new(put(directory.path(), &program)).spawn().expect("it runs");
            waits_in_pause(&child);
            assert_eq!(fs::read_to_string(&file).expect("read"), text);
            child.kill().expect("kill");
            assert!(!child.wait().expect("wait").success());
        }
    }
}
