//! The initramfs: init, the modules on the way to the root, and the order to load them in. A cpio archive of the "newc" kind
//! (Documentation/driver-api/early-userspace/buffer-format.rst), compressed with zstd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::kernel::Module;
use crate::tree::{Node, Source, Tree};

/// Best ratio that needs no long-distance window of the kernel.
const LEVEL: i32 = 19;

pub fn tree(release: &str, modules: &[Module], init: Source) -> Result<Tree> {
    let mut tree = Tree::default();
    for directory in ["/dev", "/proc", "/run", "/sys", "/sysroot"] {
        tree.directory(directory)?;
    }
    tree.program("/init", init)?;
    tree.file("/etc/initrd-release", "NAME=\"Corten\"\nID=corten\nPRETTY_NAME=\"Corten initramfs\"\n")?;
    let mut list = String::new();
    for module in modules {
        let path = format!("/usr/lib/modules/{release}/{}", module.path);
        list.push_str(&path);
        list.push('\n');
        tree.file(&path, module.bytes.clone())?;
    }
    tree.file("/usr/lib/modules.list", list)?;
    Ok(tree)
}

pub fn pack(tree: &Tree, date: u64) -> Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new(), date)?;
    for (path, node) in tree.iter() {
        let packing = || format!("packing {path}");
        match node {
            Node::Directory => archive.directory(path).with_context(packing)?,
            Node::Link(target) => archive.bytes(path, 0o120_777, target.as_bytes()).with_context(packing)?,
            Node::File { source, executable } => {
                archive.bytes(path, if *executable { 0o100_755 } else { 0o100_644 }, &source.read()?).with_context(packing)?;
            }
        }
    }
    Ok(zstd::encode_all(archive.end()?.as_slice(), LEVEL)?)
}

/// A cpio archive in the making. All files belong to root and have one date.
#[derive(Debug)]
pub struct Archive<W: Write> {
    out: W,
    date: u32,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W, date: u64) -> Result<Archive<W>> {
        Ok(Archive { out, date: u32::try_from(date).context("date after 2106")?, inode: 0 })
    }

    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.bytes(path, 0o040_755, &[])
    }

    /// A file that is too large for the memory.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        let reading = || format!("reading {}", from.display());
        let file = File::open(from).with_context(reading)?;
        let size = file.metadata().with_context(reading)?.len();
        self.entry(path, 0o100_644, size, &mut file.take(size))
    }

    fn bytes(&mut self, path: &str, mode: u32, body: &[u8]) -> Result<()> {
        self.entry(path, mode, u64::try_from(body.len())?, &mut &*body)
    }

    fn entry(&mut self, path: &str, mode: u32, size: u64, body: &mut impl Read) -> Result<()> {
        self.inode += 1;
        self.record(self.inode, mode, self.date, path.trim_start_matches('/'), size, body)
    }

    fn record(&mut self, inode: u32, mode: u32, date: u32, name: &str, size: u64, body: &mut impl Read) -> Result<()> {
        let size = u32::try_from(size).context("larger than 4 GiB")?;
        let name_size = u32::try_from(name.len() + 1)?;
        // inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), size of the name, checksum
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields = [inode, mode, 0, 0, links, date, size, 0, 0, 0, 0, name_size, 0];
        let mut header = b"070701".to_vec();
        for field in fields {
            write!(header, "{field:08x}")?;
        }
        header.extend_from_slice(name.as_bytes());
        header.push(0);
        header.resize(header.len().next_multiple_of(4), 0);
        self.out.write_all(&header)?;
        let copied = io::copy(body, &mut self.out)?;
        ensure!(copied == u64::from(size), "{name} has {copied} bytes, expected {size}: it changed meanwhile");
        let rest = copied.next_multiple_of(4) - copied;
        self.out.write_all(&[0; 4][..usize::try_from(rest)?])?;
        Ok(())
    }

    /// Ends the archive and gives back what it was written to.
    pub fn end(mut self) -> Result<W> {
        self.record(0, 0, 0, "TRAILER!!!", 0, &mut io::empty())?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Tree {
        let modules =
            [("kernel/a.ko", b"A".to_vec()), ("kernel/b.ko", b"BB".to_vec())].map(|(path, bytes)| Module { path: path.into(), bytes });
        tree("6.12.1", &modules, Source::Bytes(b"init".to_vec())).unwrap()
    }

    #[test]
    fn holds_init_and_the_modules_in_loading_order() {
        let tree = example();
        let Some(Node::File { source: Source::Bytes(list), .. }) = tree.get("/usr/lib/modules.list") else { panic!("no list") };
        assert_eq!(String::from_utf8_lossy(list), "/usr/lib/modules/6.12.1/kernel/a.ko\n/usr/lib/modules/6.12.1/kernel/b.ko\n");
        assert!(matches!(tree.get("/init"), Some(Node::File { executable: true, .. })));
    }

    #[test]
    fn packs_what_cpio_reads() {
        let Ok(archive) = zstd::decode_all(pack(&example(), 1_700_000_000).unwrap().as_slice()) else { panic!("not zstd") };
        assert!(archive.starts_with(b"07070100000001000041ed"), "begins with a directory of mode 0755");
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        let order: Vec<usize> = ["dev\0", "etc/initrd-release\0", "init\0", "usr/lib/modules.list\0", "TRAILER!!!\0"]
            .iter()
            .map(|n| text.find(n).unwrap())
            .collect();
        assert!(order.is_sorted(), "{order:?}");
        assert!(text.contains("000081ed"), "init can be executed");
    }
}
