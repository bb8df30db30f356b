//! What a root must not hold, and the golden list of what can be executed in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::profile::Profile;
use crate::tree::{Node, Tree};

/// Shells, interpreters and programs that bring either along.
const FORBIDDEN: [&str; 24] = [
    "ash", "awk", "bash", "busybox", "csh", "dash", "fish", "gawk", "ksh", "lua", "mawk", "mksh", "node.js", "perl", "php", "python",
    "rbash", "ruby", "sh", "sshd", "sudo", "tclsh", "toybox", "zsh",
];

/// Refuses shells, interpreters, scripts and links that lead nowhere. Set-user-id cannot occur: a tree knows no such bit.
pub fn forbidden(tree: &Tree) -> Result<()> {
    for (path, node) in tree.iter() {
        let name = path.rsplit('/').next().unwrap_or_default();
        // `python3.13` and `perl5.40` are those as well.
        let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        match node {
            Node::Directory => {}
            Node::Link(target) => {
                if FORBIDDEN.contains(&bare) {
                    bail!("{path}: a shell or interpreter has no place in an image");
                }
                let outside = ["/proc/", "/run/", "/var/"].iter().any(|prefix| target.starts_with(prefix));
                // The templates of /etc are at home one level below the root, not where they lie in the image.
                let home = path.strip_prefix("/usr/share/corten").unwrap_or(path);
                let leads = crate::libraries::follow(home, target);
                if !outside && tree.resolve(&leads).is_none() {
                    bail!("{path}: a link to {target}, which is not in the image");
                }
            }
            Node::File { source, executable } => {
                if *executable && FORBIDDEN.contains(&bare) {
                    bail!("{path}: a shell or interpreter has no place in an image");
                }
                if *executable && source.read()?.starts_with(b"#!") {
                    bail!("{path}: a script has no place in an image, nothing could run it");
                }
            }
        }
    }
    Ok(())
}

/// One line for each file that can be executed, and for each link to one.
pub fn executables(tree: &Tree) -> String {
    let mut lines = String::new();
    for (path, node) in tree.iter() {
        let line = match node {
            Node::File { executable: true, .. } => path.to_owned(),
            Node::Link(target) => {
                let end = tree.resolve(path).and_then(|end| tree.get(&end));
                if !matches!(end, Some(Node::File { executable: true, .. })) {
                    continue;
                }
                format!("{path} -> {target}")
            }
            _ => continue,
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

/// Compares the list with the profile's golden, or writes that.
pub fn golden(profile: &Profile, found: &str, accept: bool) -> Result<()> {
    let path = profile.executables();
    if accept {
        return fs::write(&path, found).with_context(|| format!("writing {}", path.display()));
    }
    let golden = read_golden(&path)?;
    let differences = differences(&golden, found);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "the image's executables differ from {}: {}; if that is wanted, repeat with --accept-executables and commit the file",
        path.display(),
        differences.join(", ")
    );
}

fn read_golden(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}; --accept-executables writes it", path.display()))
}

fn differences(golden: &str, found: &str) -> Vec<String> {
    let more = found.lines().filter(|line| !golden.lines().any(|g| g == *line)).map(|line| format!("+ {line}"));
    let less = golden.lines().filter(|line| !found.lines().any(|f| f == *line)).map(|line| format!("- {line}"));
    more.chain(less).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Source;

    fn program(tree: &mut Tree, path: &str, bytes: &[u8]) {
        tree.program(path, Source::Bytes(bytes.to_vec())).unwrap();
    }

    #[test]
    fn refuses_shells_interpreters_scripts_and_dead_links() {
        type Make = fn(&mut Tree);
        let cases: [(Make, &str); 6] = [
            (|t| program(t, "/usr/bin/dash", b"\x7fELF"), "/usr/bin/dash"),
            (|t| program(t, "/usr/bin/python3.13", b"\x7fELF"), "/usr/bin/python3.13"),
            (|t| program(t, "/usr/bin/tool", b"#!/bin/sh\n"), "a script"),
            (|t| t.link("/usr/bin/sh", "x").unwrap(), "/usr/bin/sh"),
            (|t| t.link("/usr/bin/x", "y").unwrap(), "a link to y"),
            (|t| t.link("/usr/share/corten/etc/x", "usr/x").unwrap(), "a link to usr/x"),
        ];
        for (make, expected) in cases {
            let mut tree = Tree::default();
            make(&mut tree);
            let error = forbidden(&tree).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn accepts_what_belongs_there() {
        let mut tree = Tree::default();
        program(&mut tree, "/usr/bin/kmod", b"\x7fELF");
        tree.link("/usr/sbin/modprobe", "../bin/kmod").unwrap();
        tree.link("/usr/share/corten/etc/mtab", "/proc/self/mounts").unwrap();
        tree.file("/usr/lib/os-release", "").unwrap();
        tree.link("/usr/share/corten/etc/os-release", "../usr/lib/os-release").unwrap();
        forbidden(&tree).unwrap();
        assert_eq!(executables(&tree), "/usr/bin/kmod\n/usr/sbin/modprobe -> ../bin/kmod\n");
    }

    #[test]
    fn says_how_the_executables_differ() {
        assert_eq!(differences("/a\n/b\n", "/b\n/c\n"), ["+ /c", "- /a"]);
    }
}
