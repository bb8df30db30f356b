//! The shared libraries that the programs of a tree load: read from their ELF headers, taken from the packages that they depend on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use object::elf::FileHeader64;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};

use crate::contents::Contents;
use crate::deb::{self, Entry};
use crate::tree::{Node, Tree};

/// Where Debian's loader looks without a cache or a configuration.
const DIRECTORIES: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib"];

/// Adds all libraries. `origins` says from which package a path of the tree came; programs without one must need none.
pub fn add(tree: &mut Tree, contents: &mut Contents<'_>, origins: &BTreeMap<String, String>) -> Result<()> {
    let mut queue: Vec<(String, Option<String>)> = tree
        .iter()
        .filter(|(_, node)| matches!(node, Node::File { .. }))
        .map(|(path, _)| (path.to_owned(), origins.get(path).cloned()))
        .collect();
    while let Some((path, package)) = queue.pop() {
        let Some(Node::File { source, .. }) = tree.get(&path) else { continue };
        let needed = needed(&source.read()?).with_context(|| format!("reading {path} as ELF"))?;
        for library in needed {
            let place = if library.starts_with('/') { Some(deb::merged(&library)) } else { None };
            let places: Vec<String> = place.map_or_else(|| DIRECTORIES.map(|d| format!("{d}/{library}")).to_vec(), |place| vec![place]);
            if places.iter().any(|place| tree.get(place).is_some()) {
                continue;
            }
            let Some(package) = &package else { bail!("{path} needs {library}: programs of our own must be linked statically") };
            let Some((at, owner)) = find(contents, package, &places)? else {
                bail!("{path} needs {library}, which is in none of the packages that {package} depends on");
            };
            queue.extend(take(tree, contents, &owner, &at)?.into_iter().map(|file| (file, Some(owner.clone()))));
        }
    }
    Ok(())
}

fn find(contents: &mut Contents<'_>, package: &str, places: &[String]) -> Result<Option<(String, String)>> {
    let candidates: Vec<String> = contents.lock().with_dependencies(package).iter().map(|p| p.name.clone()).collect();
    for candidate in candidates {
        for place in places {
            if contents.entry(&candidate, place)?.is_some() {
                return Ok(Some((place.clone(), candidate)));
            }
        }
    }
    Ok(None)
}

/// Puts a file of a package into the tree, and where it is a link, what the link leads to. Returns the file.
fn take(tree: &mut Tree, contents: &mut Contents<'_>, package: &str, path: &str) -> Result<Option<String>> {
    let mut path = path.to_owned();
    loop {
        match contents.entry(package, &path)? {
            Some(Entry::File { bytes, executable }) => {
                let source = crate::tree::Source::Bytes(bytes);
                tree.put(&path, Node::File { source, executable })?;
                return Ok(Some(path));
            }
            Some(Entry::Link(target)) => {
                tree.link(&path, &target)?;
                path = follow(&path, &target);
            }
            None => bail!("package {package}: {path} is linked to, but not there"),
        }
    }
}

/// The absolute path that a link at `path` with this target means.
pub fn follow(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { vec![] } else { path.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    deb::merged(&parts.join("/"))
}

/// DT_NEEDED and PT_INTERP of an ELF file; nothing for other files and for static programs.
fn needed(file: &[u8]) -> Result<Vec<String>> {
    if !file.starts_with(&elf::ELFMAG) {
        return Ok(vec![]);
    }
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, file)?;
    let mut names = Vec::new();
    for segment in segments {
        if let Some(interpreter) = segment.interpreter(endian, file)? {
            names.push(String::from_utf8_lossy(interpreter).into_owned());
        }
    }
    let Some(dynamic) = dynamic(segments, endian, file)? else { return Ok(names) };
    let value = |tag: elf::DynamicTag| dynamic.iter().find(|d| d.tag(endian) == tag).map(|d| d.d_val(endian));
    let (Some(at), Some(size)) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ)) else { return Ok(names) };
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, file, at, size).ok().flatten())
        .context("the dynamic string table is in no segment")?;
    for entry in dynamic.iter().filter(|d| d.tag(endian) == elf::DT_NEEDED) {
        let offset = usize::try_from(entry.d_val(endian))?;
        let name =
            strings.get(offset..).and_then(|rest| rest.split(|byte| *byte == 0).next()).context("a needed library's name is cut off")?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(names)
}

type Segment = elf::ProgramHeader64<Endianness>;

fn dynamic<'a>(segments: &'a [Segment], endian: Endianness, file: &'a [u8]) -> Result<Option<&'a [elf::Dyn64<Endianness>]>> {
    for segment in segments {
        if let Some(dynamic) = segment.dynamic(endian, file)? {
            return Ok(Some(dynamic));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_program_loads() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let needed = needed(&program).unwrap();
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
        assert!(needed.iter().any(|name| name.starts_with("/lib") && name.contains("ld-linux")), "{needed:?}");
        assert_eq!(super::needed(b"no program").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn follows_links_of_packages() {
        assert_eq!(follow("/usr/lib64/ld.so", "../lib/x/ld.so"), "/usr/lib/x/ld.so");
        assert_eq!(follow("/usr/lib/x/liba.so.1", "liba.so.1.2"), "/usr/lib/x/liba.so.1.2");
        assert_eq!(follow("/usr/sbin/x", "/lib/y"), "/usr/lib/y");
    }
}
