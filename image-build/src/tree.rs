//! A file tree as a value: composed first, written once. Owner and times are not part of it: everything belongs to root and has the
//! build's date, whoever builds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    File { source: Source, executable: bool },
    Link(String),
}

/// Where a file's content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Bytes(Vec<u8>),
    Path(PathBuf),
}

impl Source {
    pub fn read(&self) -> Result<Vec<u8>> {
        match self {
            Source::Bytes(bytes) => Ok(bytes.clone()),
            Source::Path(path) => fs::read(path).with_context(|| format!("reading {}", path.display())),
        }
    }
}

/// Nodes by absolute path. The directories on the way to a node are there as well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, Node>);

impl Tree {
    pub fn directory(&mut self, path: &str) -> Result<()> {
        self.put(path, Node::Directory)
    }

    pub fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.put(path, Node::File { source: Source::Bytes(bytes.into()), executable: false })
    }

    pub fn program(&mut self, path: &str, source: Source) -> Result<()> {
        self.put(path, Node::File { source, executable: true })
    }

    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.put(path, Node::Link(target.to_owned()))
    }

    /// The same node twice is fine, two different ones at one path are an error.
    pub fn put(&mut self, path: &str, node: Node) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/')
            && !parent.is_empty()
        {
            match self.0.get(parent) {
                Some(Node::Directory) => {}
                Some(_) => bail!("{path}: {parent} is not a directory"),
                None => self.put(parent, Node::Directory)?,
            }
        }
        match self.0.get(path) {
            Some(before) if *before != node => bail!("{path}: two different files want this place"),
            _ => {
                self.0.insert(path.to_owned(), node);
                Ok(())
            }
        }
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(path)
    }

    /// Parents before children.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The path that a path leads to, links in any part of it followed. `None` when it ends nowhere.
    pub fn resolve(&self, path: &str) -> Option<String> {
        // As many as the kernel follows (path_resolution(7)).
        let mut links_left = 40;
        let mut rest: Vec<String> = parts(path);
        let mut at = String::new();
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{at}/{part}");
            match self.0.get(&next)? {
                Node::Link(target) => {
                    links_left -= 1;
                    if links_left == 0 {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    rest.extend(parts(target));
                }
                _ => at = next,
            }
        }
        Some(at)
    }

    /// Makes the tree below an existing empty directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        for (path, node) in self.iter() {
            let target = directory.join(path.trim_start_matches('/'));
            write_node(node, &target).with_context(|| format!("writing {}", target.display()))?;
        }
        Ok(())
    }
}

fn write_node(node: &Node, target: &Path) -> Result<()> {
    match node {
        Node::Directory => {
            fs::create_dir(target)?;
            fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
        }
        Node::Link(to) => symlink(to, target)?,
        Node::File { source, executable } => {
            match source {
                Source::Bytes(bytes) => fs::write(target, bytes)?,
                Source::Path(path) => {
                    fs::copy(path, target).with_context(|| format!("copying {}", path.display()))?;
                }
            }
            fs::set_permissions(target, fs::Permissions::from_mode(if *executable { 0o755 } else { 0o644 }))?;
        }
    }
    Ok(())
}

/// Last part first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_parents_and_refuses_two_files_at_one_place() {
        let mut tree = Tree::default();
        tree.file("/usr/lib/os-release", "ID=corten\n").unwrap();
        assert_eq!(tree.get("/usr/lib"), Some(&Node::Directory));
        tree.file("/usr/lib/os-release", "ID=corten\n").unwrap();
        assert!(tree.file("/usr/lib/os-release", "ID=other\n").unwrap_err().to_string().contains("two different"));
        assert!(tree.file("/usr/lib/os-release/x", "").unwrap_err().to_string().contains("not a directory"));
    }

    #[test]
    fn follows_links() {
        let mut tree = Tree::default();
        tree.link("/lib64", "usr/lib64").unwrap();
        tree.link("/usr/lib64/ld.so", "../lib/x/ld.so").unwrap();
        tree.file("/usr/lib/x/ld.so", "").unwrap();
        tree.link("/loop", "/loop").unwrap();
        assert_eq!(tree.resolve("/lib64/ld.so").as_deref(), Some("/usr/lib/x/ld.so"));
        assert_eq!(tree.resolve("/lib64/none"), None);
        assert_eq!(tree.resolve("/loop"), None);
    }

    #[test]
    fn writes_modes_links_and_content() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.program("/usr/bin/x", Source::Bytes(b"x".to_vec())).unwrap();
        tree.link("/bin", "usr/bin").unwrap();
        tree.write(directory.path()).unwrap();
        let written = directory.path().join("bin/x");
        assert_eq!(fs::read(&written).unwrap(), b"x");
        assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
