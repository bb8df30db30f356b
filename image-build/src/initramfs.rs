//! The initramfs: init, the modules on the way to the root, and the order to load them in. A cpio archive of the "newc" kind
//! (Documentation/driver-api/early-userspace/buffer-format.rst), compressed with zstd.

use std::io::Write;

use anyhow::{Context, Result};

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
    let mut archive = Vec::new();
    let mut inode = 0;
    for (path, node) in tree.iter() {
        inode += 1;
        let name = path.trim_start_matches('/');
        let (mode, body) = match node {
            Node::Directory => (0o040_755, Vec::new()),
            Node::Link(target) => (0o120_777, target.clone().into_bytes()),
            Node::File { source, executable } => (if *executable { 0o100_755 } else { 0o100_644 }, source.read()?),
        };
        record(&mut archive, inode, mode, date, name, &body).with_context(|| format!("packing {path}"))?;
    }
    record(&mut archive, 0, 0, 0, "TRAILER!!!", &[])?;
    Ok(zstd::encode_all(archive.as_slice(), LEVEL)?)
}

fn record(archive: &mut Vec<u8>, inode: u32, mode: u32, date: u64, name: &str, body: &[u8]) -> Result<()> {
    let size = u32::try_from(body.len()).context("larger than 4 GiB")?;
    let date = u32::try_from(date).context("date after 2106")?;
    let name_size = u32::try_from(name.len() + 1)?;
    // inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), size of the name, checksum
    let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
    let fields = [inode, mode, 0, 0, links, date, size, 0, 0, 0, 0, name_size, 0];
    write!(archive, "070701")?;
    for field in fields {
        write!(archive, "{field:08x}")?;
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(body);
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
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
