//! What a .deb file holds, as values. Its maintainer scripts are never run.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::tools;

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File {
        bytes: Vec<u8>,
        executable: bool,
    },
    /// Target as the package says it.
    Link(String),
}

/// Files and links of a package by absolute path, `/bin`, `/lib`... moved below `/usr`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deb(pub BTreeMap<String, Entry>);

/// Reads the files whose paths `wanted` accepts.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Deb> {
    let mut command = tools::DPKG_DEB.command()?;
    let mut child =
        command.arg("--fsys-tarfile").arg(path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting dpkg-deb")?;
    let stdout = child.stdout.take().context("output of dpkg-deb")?;
    let entries = entries(stdout, wanted);
    let output = child.wait_with_output().context("waiting for dpkg-deb")?;
    if !output.status.success() {
        bail!("dpkg-deb {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(Deb(entries.with_context(|| format!("reading {}", path.display()))?))
}

fn entries(stream: impl Read, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Entry>> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged(&entry.path()?.to_string_lossy());
        if !wanted(&path) {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_symlink() {
            let target = entry.link_name()?.with_context(|| format!("{path}: a link without a target"))?;
            found.insert(path, Entry::Link(target.to_string_lossy().into_owned()));
        } else if kind.is_hard_link() {
            let target = entry.link_name()?.with_context(|| format!("{path}: a link without a target"))?;
            let target = merged(&target.to_string_lossy());
            let copy = found.get(&target).cloned().with_context(|| format!("{path}: hard link to {target}, which was not read"))?;
            found.insert(path, copy);
        } else if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            let mut bytes = Vec::with_capacity(usize::try_from(entry.size())?);
            entry.read_to_end(&mut bytes)?;
            found.insert(path, Entry::File { bytes, executable });
        }
    }
    Ok(found)
}

/// `./lib/x` as `/usr/lib/x`: the four directories that are links in a merged root.
pub fn merged(path: &str) -> String {
    let path = path.trim_start_matches('.').trim_start_matches('/').trim_end_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) { format!("/usr/{path}") } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_old_paths_below_usr() {
        assert_eq!(merged("./lib/x86_64-linux-gnu/libc.so.6"), "/usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(merged("./usr/bin/kmod"), "/usr/bin/kmod");
        assert_eq!(merged("./etc/"), "/etc");
        assert_eq!(merged("/lib64/ld-linux-x86-64.so.2"), "/usr/lib64/ld-linux-x86-64.so.2");
    }

    #[test]
    fn reads_files_modes_and_links() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |path: &str, mode: u32, body: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(body.len() as u64);
            header.set_mode(mode);
            builder.append_data(&mut header, path, body).unwrap();
        };
        add("./usr/bin/tool", 0o4755, b"program");
        add("./etc/skipped", 0o644, b"no");
        for (kind, name, target) in
            [(tar::EntryType::Symlink, "./sbin/t", "../bin/tool"), (tar::EntryType::Link, "./usr/bin/same", "./usr/bin/tool")]
        {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            builder.append_link(&mut header, name, target).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let found = entries(bytes.as_slice(), |path| !path.starts_with("/etc")).unwrap();
        let program = Entry::File { bytes: b"program".to_vec(), executable: true };
        let expected = BTreeMap::from([
            ("/usr/bin/tool".to_owned(), program.clone()),
            ("/usr/bin/same".to_owned(), program),
            ("/usr/sbin/t".to_owned(), Entry::Link("../bin/tool".to_owned())),
        ]);
        assert_eq!(found, expected);
    }
}
