//! Debian's kernel package: the kernel, and its modules with what each depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use glob::Pattern;
use object::{Object, ObjectSection};

use crate::deb::{self, Entry};

#[derive(Debug)]
pub struct Kernel {
    /// `6.12.117+deb13-cloud-amd64`
    pub release: String,
    pub image: Vec<u8>,
    /// Lists of what is built in, by file name, as modprobe and depmod read them.
    pub lists: BTreeMap<String, Vec<u8>>,
    /// Compressed, by path below `/usr/lib/modules/<release>/` without `.xz`.
    packed: BTreeMap<String, Vec<u8>>,
    builtin: BTreeSet<String>,
}

/// A module as it goes into an image: not compressed, its signature behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Below `/usr/lib/modules/<release>/`.
    pub path: String,
    pub bytes: Vec<u8>,
}

impl Kernel {
    pub fn read(package: &Path) -> Result<Kernel> {
        let wanted = |path: &str| path.starts_with("/boot/vmlinuz-") || path.starts_with("/usr/lib/modules/");
        let deb = deb::read(package, wanted)?;
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (path, entry) in deb.0 {
            if let Entry::File { bytes, .. } = entry {
                files.insert(path, bytes);
            }
        }
        let image_path = files.keys().find(|path| path.starts_with("/boot/vmlinuz-")).cloned();
        let image_path = image_path.with_context(|| format!("{}: no kernel in it", package.display()))?;
        let release = image_path.trim_start_matches("/boot/vmlinuz-").to_owned();
        let image = files.remove(&image_path).unwrap_or_default();
        let prefix = format!("/usr/lib/modules/{release}/");
        let (mut packed, mut lists) = (BTreeMap::new(), BTreeMap::new());
        for (path, bytes) in files {
            let Some(path) = path.strip_prefix(&prefix) else { continue };
            if let Some(module) = path.strip_suffix(".xz").filter(|module| module.ends_with(".ko")) {
                packed.insert(module.to_owned(), bytes);
            } else if path.starts_with("modules.") {
                lists.insert(path.to_owned(), bytes);
            } else if path.ends_with(".ko") {
                bail!("{}: {path} is not compressed with xz as Debian's modules are", package.display());
            }
        }
        let builtin = lists.get("modules.builtin").with_context(|| format!("{}: no modules.builtin", package.display()))?;
        let builtin = String::from_utf8_lossy(builtin).lines().map(name).collect();
        Ok(Kernel { release, image, lists, packed, builtin })
    }

    /// The modules that these wishes name and what they depend on: each after what it needs, otherwise in the order of the wishes.
    pub fn select(&self, wishes: &[String]) -> Result<Vec<Module>> {
        let names: BTreeMap<String, &str> = self.packed.keys().map(|path| (name(path), path.as_str())).collect();
        let mut chosen = Chosen { kernel: self, names: &names, done: BTreeSet::new(), modules: Vec::new() };
        let mut unknown = Vec::new();
        for wish in wishes {
            let matching = self.matching(wish)?;
            if matching.is_empty() && !self.is_builtin(wish) {
                unknown.push(wish.as_str());
            }
            for path in matching {
                chosen.add(path)?;
            }
        }
        if !unknown.is_empty() {
            bail!(
                "kernel {} has no module {}; correct [modules] in configs/profiles or configs/platforms",
                self.release,
                unknown.join(", ")
            );
        }
        Ok(chosen.modules)
    }

    fn matching(&self, wish: &str) -> Result<Vec<&str>> {
        if wish.ends_with('/') {
            let prefix = format!("kernel/{wish}");
            return Ok(self.packed.keys().map(String::as_str).filter(|path| path.starts_with(&prefix)).collect());
        }
        let pattern = Pattern::new(&wish.replace('-', "_"))?;
        Ok(self.packed.keys().map(String::as_str).filter(|path| pattern.matches(&name(path))).collect())
    }

    fn is_builtin(&self, wish: &str) -> bool {
        self.builtin.contains(&wish.replace('-', "_"))
    }

    fn unpack(&self, path: &str) -> Result<Vec<u8>> {
        let packed = self.packed.get(path).with_context(|| format!("no module {path}"))?;
        let mut bytes = Vec::with_capacity(packed.len() * 4);
        let mut reader = lzma_rust2::XzReader::new(packed.as_slice(), true);
        reader.read_to_end(&mut bytes).with_context(|| format!("decompressing {path}"))?;
        Ok(bytes)
    }
}

struct Chosen<'a> {
    kernel: &'a Kernel,
    names: &'a BTreeMap<String, &'a str>,
    done: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Chosen<'_> {
    fn add(&mut self, path: &str) -> Result<()> {
        if !self.done.insert(path.to_owned()) {
            return Ok(());
        }
        let bytes = self.kernel.unpack(path)?;
        let needs = needs(&bytes).with_context(|| format!("reading {path}"))?;
        for name in &needs.modules {
            let needed = self.names.get(name).with_context(|| format!("{path} needs module {name}, which the package lacks"))?;
            self.add(needed)?;
        }
        for needed in needs.soft.iter().filter_map(|name| soft(self.names, name)) {
            self.add(needed)?;
        }
        self.modules.push(Module { path: path.to_owned(), bytes });
        Ok(())
    }
}

/// The module that a soft dependency means, unless it is built in or an alias of something else. An algorithm (`crc32c`) has several, one of
/// which runs on every processor; without it libcrc32c does not load, nor erofs and ext4 of a kernel that has all three as modules.
fn soft<'a>(names: &BTreeMap<String, &'a str>, name: &str) -> Option<&'a str> {
    names.get(name).or_else(|| names.get(&format!("{name}_generic"))).copied()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    modules: Vec<String>,
    soft: Vec<String>,
}

/// From the section `.modinfo`: `depends=a,b` and `softdep=pre: c post: d`.
fn needs(module: &[u8]) -> Result<Needs> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no section .modinfo")?;
    Ok(parse_modinfo(section.data()?))
}

fn parse_modinfo(section: &[u8]) -> Needs {
    let mut needs = Needs::default();
    for entry in section.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        match entry.split_once('=') {
            Some(("depends", list)) => needs.modules.extend(list.split(',').filter(|n| !n.is_empty()).map(name)),
            Some(("softdep", list)) => {
                needs.soft.extend(list.split_whitespace().filter(|word| !word.ends_with(':')).map(name));
            }
            _ => {}
        }
    }
    needs
}

/// A module's name as the kernel says it: `kernel/net/netfilter/ip_set/ip-set.ko` is `ip_set`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".ko").unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_module_needs() {
        let section = b"license=GPL\0depends=dm-mod,dm_bufio\0softdep=pre: crc32c post: x-y\0intree=Y\0";
        let expected = Needs { modules: vec!["dm_mod".into(), "dm_bufio".into()], soft: vec!["crc32c".into(), "x_y".into()] };
        assert_eq!(parse_modinfo(section), expected);
        assert_eq!(parse_modinfo(b"depends=\0"), Needs::default());
    }

    #[test]
    fn algorithms_are_those_that_run_everywhere() {
        let names = [("crc32c_generic", "a"), ("crc32c_intel", "b"), ("xxhash", "c"), ("xxhash_generic", "d")];
        let names: BTreeMap<String, &str> = names.map(|(name, path)| (name.to_owned(), path)).into();
        assert_eq!(["crc32c", "xxhash", "blake2b"].map(|name| soft(&names, name)), [Some("a"), Some("c"), None]);
    }

    #[test]
    fn names_modules_as_the_kernel_does() {
        assert_eq!(name("kernel/drivers/md/dm-mod.ko"), "dm_mod");
        assert_eq!(name("kernel/fs/overlayfs/overlay.ko"), "overlay");
    }
}
