//! The unified kernel image: systemd's stub with kernel, initramfs and command line as further PE sections
//! (UAPI Group Specification "Unified Kernel Image", PE/COFF specification for the headers).

use anyhow::{Context, Result, bail, ensure};

/// What the stub looks for.
#[derive(Debug)]
pub struct Parts<'a> {
    pub os_release: &'a str,
    pub command_line: &'a str,
    pub kernel_release: &'a str,
    pub kernel: &'a [u8],
    pub initramfs: &'a [u8],
}

const CODE: u32 = 0x0000_0020;
const INITIALIZED_DATA: u32 = 0x0000_0040;
const READ: u32 = 0x4000_0000;
const SECTION_HEADER: usize = 40;

/// Offsets in the PE headers, from the signature `PE\0\0`.
const NUMBER_OF_SECTIONS: usize = 4 + 2;
const SIZE_OF_OPTIONAL_HEADER: usize = 4 + 16;
const OPTIONAL_HEADER: usize = 4 + 20;
/// Offsets in the optional header of PE32+.
const SIZE_OF_INITIALIZED_DATA: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const SIZE_OF_IMAGE: usize = 56;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const PE32_PLUS: u16 = 0x20b;

pub fn assemble(stub: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>> {
    let mut image = Image::parse(stub).context("the UKI's stub")?;
    image.append(".osrel", parts.os_release.as_bytes(), INITIALIZED_DATA)?;
    image.append(".cmdline", parts.command_line.as_bytes(), INITIALIZED_DATA)?;
    image.append(".uname", parts.kernel_release.as_bytes(), INITIALIZED_DATA)?;
    image.append(".initrd", parts.initramfs, INITIALIZED_DATA)?;
    // Last: the kernel may want more memory behind it than its file is long. CODE as ukify(1) marks it.
    image.append(".linux", parts.kernel, CODE)?;
    Ok(image.bytes)
}

struct Image {
    bytes: Vec<u8>,
    /// Where the signature `PE\0\0` stands.
    pe: usize,
    sections: usize,
    section_alignment: u32,
    file_alignment: u32,
}

impl Image {
    fn parse(stub: &[u8]) -> Result<Image> {
        ensure!(stub.starts_with(b"MZ"), "not a PE file");
        let pe = usize::try_from(read_u32(stub, 0x3c)?)?;
        ensure!(stub.get(pe..pe + 4) == Some(b"PE\0\0".as_slice()), "no PE signature");
        let magic = read_u16(stub, pe + OPTIONAL_HEADER)?;
        ensure!(magic == PE32_PLUS, "optional header {magic:#x}: expected PE32+");
        let image = Image {
            pe,
            sections: usize::from(read_u16(stub, pe + NUMBER_OF_SECTIONS)?),
            section_alignment: read_u32(stub, pe + OPTIONAL_HEADER + SECTION_ALIGNMENT)?,
            file_alignment: read_u32(stub, pe + OPTIONAL_HEADER + FILE_ALIGNMENT)?,
            bytes: stub.to_vec(),
        };
        ensure!(image.section_alignment.is_power_of_two() && image.file_alignment.is_power_of_two(), "odd alignments");
        Ok(image)
    }

    fn table(&self) -> Result<usize> {
        Ok(self.pe + OPTIONAL_HEADER + usize::from(read_u16(&self.bytes, self.pe + SIZE_OF_OPTIONAL_HEADER)?))
    }

    fn append(&mut self, name: &str, content: &[u8], kind: u32) -> Result<()> {
        self.append_section(name, content, kind).with_context(|| format!("adding section {name}"))
    }

    fn append_section(&mut self, name: &str, content: &[u8], kind: u32) -> Result<()> {
        let table = self.table()?;
        let optional = self.pe + OPTIONAL_HEADER;
        let headers_end = usize::try_from(read_u32(&self.bytes, optional + SIZE_OF_HEADERS)?)?;
        let entry = table + self.sections * SECTION_HEADER;
        if entry + SECTION_HEADER > headers_end {
            bail!("no room for another section header in the stub");
        }
        let mut memory_end = 0;
        for section in 0..self.sections {
            let at = table + section * SECTION_HEADER;
            ensure!(self.bytes[at..at + 8] != padded(name)?, "the stub has one of that name");
            memory_end = memory_end.max(read_u32(&self.bytes, at + 12)? + read_u32(&self.bytes, at + 8)?);
        }
        let address = memory_end.next_multiple_of(self.section_alignment);
        let size = u32::try_from(content.len()).context("larger than 4 GiB")?;
        let raw_size = size.next_multiple_of(self.file_alignment);
        let raw_at = self.bytes.len().next_multiple_of(usize::try_from(self.file_alignment)?);
        self.bytes.resize(raw_at, 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(raw_at + usize::try_from(raw_size)?, 0);

        let mut header = padded(name)?.to_vec();
        for field in [size, address, raw_size, u32::try_from(raw_at)?, 0, 0, 0, kind | READ] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        self.bytes[entry..entry + SECTION_HEADER].copy_from_slice(&header);
        self.sections += 1;
        let count = u16::try_from(self.sections)?;
        self.bytes[self.pe + NUMBER_OF_SECTIONS..][..2].copy_from_slice(&count.to_le_bytes());
        self.write_u32(optional + SIZE_OF_IMAGE, (address + size).next_multiple_of(self.section_alignment));
        if kind == INITIALIZED_DATA {
            let before = read_u32(&self.bytes, optional + SIZE_OF_INITIALIZED_DATA)?;
            self.write_u32(optional + SIZE_OF_INITIALIZED_DATA, before + raw_size);
        }
        // Not looked at by firmware; a signing tool fills it in.
        self.write_u32(optional + CHECKSUM, 0);
        Ok(())
    }

    fn write_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

fn padded(name: &str) -> Result<[u8; 8]> {
    let mut field = [0; 8];
    field.get_mut(..name.len()).with_context(|| format!("section name {name}: at most 8 bytes"))?.copy_from_slice(name.as_bytes());
    Ok(field)
}

fn read_u16(bytes: &[u8], at: usize) -> Result<u16> {
    let field = bytes.get(at..at + 2).context("cut short")?;
    Ok(u16::from_le_bytes([field[0], field[1]]))
}

fn read_u32(bytes: &[u8], at: usize) -> Result<u32> {
    let field = bytes.get(at..at + 4).context("cut short")?;
    Ok(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use object::{Object, ObjectSection};

    /// A PE32+ file with one section `.text` and room for `room` section headers.
    pub fn stub(room: usize) -> Vec<u8> {
        let table = 0x40 + OPTIONAL_HEADER + 240;
        let headers = (table + room * SECTION_HEADER).next_multiple_of(512);
        let mut bytes = vec![0; headers + 512];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x44..0x46].copy_from_slice(&0x8664_u16.to_le_bytes());
        bytes[0x40 + NUMBER_OF_SECTIONS] = 1;
        bytes[0x40 + SIZE_OF_OPTIONAL_HEADER] = 240;
        let optional = 0x40 + OPTIONAL_HEADER;
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        put(optional, u32::from(PE32_PLUS));
        put(optional + SECTION_ALIGNMENT, 4096);
        put(optional + FILE_ALIGNMENT, 512);
        put(optional + SIZE_OF_IMAGE, 0x3000);
        put(optional + SIZE_OF_HEADERS, headers as u32);
        put(optional + 108, 16);
        put(table + 8, 100);
        put(table + 12, 0x1000);
        put(table + 16, 512);
        put(table + 20, headers as u32);
        bytes[table..table + 5].copy_from_slice(b".text");
        bytes
    }

    const PARTS: Parts<'_> =
        Parts { os_release: "ID=corten\n", command_line: "quiet", kernel_release: "6.12.1", kernel: &[7; 5000], initramfs: &[9; 600] };

    #[test]
    fn adds_sections_that_a_pe_reader_finds() {
        let image = assemble(&stub(8), &PARTS).unwrap();
        let file = object::File::parse(image.as_slice()).unwrap();
        let mut end = 0;
        for (name, content) in [
            (".osrel", b"ID=corten\n".as_slice()),
            (".cmdline", b"quiet"),
            (".uname", b"6.12.1"),
            (".initrd", &[9; 600]),
            (".linux", &[7; 5000]),
        ] {
            let section = file.section_by_name(name).unwrap();
            assert_eq!(section.data().unwrap(), content, "{name}");
            assert_eq!(section.address() % 4096, 0, "{name}");
            assert!(section.address() >= end, "{name} overlaps");
            end = section.address() + section.size();
        }
        let size = read_u32(&image, 0x40 + OPTIONAL_HEADER + SIZE_OF_IMAGE).unwrap();
        assert_eq!(u64::from(size), end.next_multiple_of(4096));
    }

    #[test]
    fn refuses_what_is_no_stub() {
        assert!(assemble(b"#!", &PARTS).is_err());
        assert!(assemble(&stub(8)[..100], &PARTS).is_err());
        // Headers are rounded up to 512 bytes: there is room for three more sections, five are needed.
        let full = format!("{:#}", assemble(&stub(1), &PARTS).unwrap_err());
        assert!(full.contains("no room for another section header"), "{full}");
    }
}
