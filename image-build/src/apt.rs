//! A private apt root: its own sources, lists, state and cache, so that packages of another Debian release are read with apt's own
//! signature check while the host's apt and dpkg stay as they are.

pub mod mirrors;
pub mod stanza;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use time::format_description::well_known::Rfc2822;

use crate::tools::{self, Tool};
use mirrors::Mirrors;
use stanza::Stanza;

/// Debian release whose packages images are made of.
pub const RELEASE: &str = "trixie";
/// Debian's name of the architecture.
pub const ARCHITECTURE: &str = "amd64";

const KEYRINGS: [&str; 2] = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// What of the host's own settings the way to the mirror may need.
const HOST_SETTINGS: [&str; 8] = [
    "Acquire::http::",
    "Acquire::https::",
    "Acquire::Proxy-Auto-Detect ",
    "Acquire::Retries ",
    "Acquire::ForceIPv4 ",
    "Acquire::ForceIPv6 ",
    "Acquire::Check-Valid-Until ",
    "Acquire::Check-Date ",
];

/// An opened private root.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
}

/// What the closure of a request is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub version: String,
}

impl Apt {
    /// Writes the configuration of the root in `directory`. Nothing is fetched yet.
    pub fn open(directory: &Path, mirrors: &Mirrors) -> Result<Apt> {
        for part in ["etc", "state/lists/partial", "cache/archives/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        let directory = directory.canonicalize().with_context(|| format!("opening {}", directory.display()))?;
        let Some(keyring) = KEYRINGS.iter().map(Path::new).find(|path| path.is_file()) else {
            bail!(
                "no {}: apt verifies Debian's signatures with it; install with: sudo apt-get install debian-archive-keyring",
                KEYRINGS[0]
            );
        };
        write_if_changed(&directory.join("etc/sources.list"), &mirrors.sources_list(RELEASE, keyring))?;
        let host = tools::APT_CONFIG.run(["dump"])?;
        write_if_changed(&directory.join("etc/apt.conf"), &configuration(&directory, &host))?;
        Ok(Apt { directory })
    }

    fn run<S: AsRef<OsStr>>(&self, tool: Tool, at: &Path, arguments: &[S]) -> Result<String> {
        let mut command = tool.command()?;
        // APT_CONFIG is read before everything else, so it can point apt away from the host's files.
        command.env("APT_CONFIG", self.directory.join("etc/apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        command.current_dir(at).args(arguments);
        tools::run(&mut command)
    }

    /// Fetches the signed lists.
    pub fn update(&self) -> Result<()> {
        self.run(tools::APT_GET, &self.directory, &["-q", "update", "-o", "APT::Update::Error-Mode=any"])
            .context("updating Debian's package lists")?;
        Ok(())
    }

    /// What an installation of these names on an empty system takes, without recommended packages.
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Candidate>> {
        let mut arguments = vec!["-s".to_owned(), "--no-install-recommends".to_owned(), "install".to_owned()];
        arguments.extend_from_slice(names);
        let printed = match self.run(tools::APT_GET, &self.directory, &arguments) {
            Ok(printed) => printed,
            Err(error) => return Err(explain_unknown(error)),
        };
        Ok(simulated(&printed))
    }

    /// The signed index' record of exactly this version; `None` when the mirror has it no more.
    pub fn record(&self, name: &str, version: &str) -> Result<Option<Stanza>> {
        let Ok(printed) = self.run(tools::APT_CACHE, &self.directory, &["show", &format!("{name}={version}")]) else {
            return Ok(None);
        };
        let records = stanza::parse(&printed);
        let same = |record: &Stanza| record.get("Package") == Some(name) && record.get("Version") == Some(version);
        Ok(records.into_iter().find(same))
    }

    /// The records of many versions that are known to be there, in any order.
    pub fn records(&self, candidates: &[Candidate]) -> Result<Vec<Stanza>> {
        let mut arguments = vec!["show".to_owned()];
        arguments.extend(candidates.iter().map(|c| format!("{}={}", c.name, c.version)));
        Ok(stanza::parse(&self.run(tools::APT_CACHE, &self.directory, &arguments)?))
    }

    /// Fetches packages into a directory; apt checks them against the signed index.
    pub fn download(&self, packages: &[Candidate], into: &Path) -> Result<()> {
        let mut arguments = vec!["-q".to_owned(), "download".to_owned()];
        arguments.extend(packages.iter().map(|p| format!("{}={}", p.name, p.version)));
        self.run(tools::APT_GET, into, &arguments).context("downloading Debian packages")?;
        Ok(())
    }

    /// Fetches one file from elsewhere with apt's ways and proxies, checked by its digest.
    pub fn download_file(&self, uri: &str, target: &Path, sha256: &str) -> Result<()> {
        let arguments =
            [OsStr::new("download-file"), uri.as_ref(), target.as_ref(), format!("SHA256:{sha256}").as_ref()].map(OsStr::to_owned);
        self.run(tools::APT_HELPER, &self.directory, &arguments).with_context(|| format!("downloading {uri}"))?;
        Ok(())
    }

    /// Date of the newest signed Release file, in seconds since the epoch.
    pub fn release_date(&self) -> Result<u64> {
        let lists = self.directory.join("state/lists");
        let mut newest = None;
        for entry in fs::read_dir(&lists).with_context(|| format!("reading {}", lists.display()))? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("_InRelease") {
                let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                newest = newest.max(Some(release_date(&text).with_context(|| format!("no date in {}", path.display()))?));
            }
        }
        newest.context("no Release file: the package lists were not fetched")
    }
}

fn configuration(directory: &Path, host: &str) -> String {
    let at = |part: &str| directory.join(part).display().to_string();
    let mut text = String::new();
    for line in host.lines().filter(|line| HOST_SETTINGS.iter().any(|setting| line.starts_with(setting))) {
        text.push_str(line);
        text.push('\n');
    }
    for (key, value) in [
        ("Dir::State", at("state")),
        ("Dir::State::status", "/dev/null".to_owned()),
        ("Dir::Cache", at("cache")),
        ("Dir::Etc::sourcelist", at("etc/sources.list")),
        ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
        ("Dir::Etc::parts", "/dev/null".to_owned()),
        ("Dir::Etc::main", "/dev/null".to_owned()),
        ("Dir::Etc::preferences", "/dev/null".to_owned()),
        ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
        ("Dir::Etc::trusted", "/dev/null".to_owned()),
        ("Dir::Etc::trustedparts", "/dev/null".to_owned()),
        ("APT::Architecture", ARCHITECTURE.to_owned()),
        ("APT::Install-Recommends", "false".to_owned()),
        // The user _apt could not write below a home directory. The files are data; nothing of them is run.
        ("APT::Sandbox::User", "root".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
    ] {
        text.push_str(&format!("{key} \"{value}\";\n"));
    }
    text.push_str(&format!("APT::Architectures {{ \"{ARCHITECTURE}\"; }};\n"));
    text
}

/// Lines such as `Inst libc6 (2.41-12 Debian:13.7/stable [amd64]) []`.
fn simulated(printed: &str) -> Vec<Candidate> {
    let parse = |line: &str| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?.to_owned();
        let version = words.find_map(|word| word.strip_prefix('('))?.to_owned();
        Some(Candidate { name, version })
    };
    printed.lines().filter_map(parse).collect()
}

fn explain_unknown(error: anyhow::Error) -> anyhow::Error {
    let text = error.to_string();
    let unknown: Vec<&str> = text
        .split("; ")
        .filter_map(|message| message.split_once("Unable to locate package ").map(|(_, name)| name.trim()))
        .chain(
            text.split("; ")
                .filter_map(|m| m.split_once("Package '")?.1.split_once("' has no installation candidate").map(|(name, _)| name)),
        )
        .collect();
    if unknown.is_empty() {
        return error.context("resolving the packages that the profiles ask for");
    }
    anyhow::anyhow!(
        "unknown package {}: Debian {RELEASE} has none of that name; correct [[package]] in configs/profiles",
        unknown.join(", ")
    )
}

fn release_date(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Date: "))?;
    // Release files say UTC, RFC 2822 knows that zone as GMT.
    let date = time::OffsetDateTime::parse(&line.trim().replace("UTC", "GMT"), &Rfc2822).ok()?;
    u64::try_from(date.unix_timestamp()).ok()
}

fn write_if_changed(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_simulation() {
        let printed = "Reading package lists...\nInst gcc-14-base (14.2.0-19 Debian:13.7/stable [amd64])\n\
                       Inst libc6 [2.40-1] (2.41-12 Debian:13.7/stable [amd64]) []\nConf libc6 (2.41-12 Debian [amd64])\n";
        let expected = [("gcc-14-base", "14.2.0-19"), ("libc6", "2.41-12")]
            .map(|(name, version)| Candidate { name: name.into(), version: version.into() });
        assert_eq!(simulated(printed), expected);
    }

    #[test]
    fn an_unknown_package_is_named() {
        let error = explain_unknown(anyhow::anyhow!(
            "apt-get: exit status: 100: E: Unable to locate package nosuch; E: Unable to locate package other"
        ));
        assert_eq!(
            error.to_string(),
            "unknown package nosuch, other: Debian trixie has none of that name; correct [[package]] in configs/profiles"
        );
    }

    #[test]
    fn reads_the_date_of_a_release_file() {
        assert_eq!(release_date("Origin: Debian\nDate: Sat, 15 Nov 2025 10:06:21 UTC\n"), Some(1_763_201_181));
    }

    #[test]
    fn keeps_the_hosts_way_to_the_mirror_and_nothing_else() {
        let host = "Acquire::http::Proxy \"http://proxy:3128\";\nAPT::Update::Post-Invoke:: \"rm -f x\";\nAcquire::Languages:: \"de\";\n";
        let text = configuration(Path::new("/x"), host);
        assert!(text.starts_with("Acquire::http::Proxy \"http://proxy:3128\";\nDir::State \"/x/state\";\n"), "{text}");
        assert!(!text.contains("Post-Invoke") && !text.contains("\"de\""), "{text}");
    }
}
