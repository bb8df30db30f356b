//! Where Debian packages come from: DEBIAN_MIRROR, or the Debian archive that the host itself is configured with. Entries of third
//! parties are left out. No mirror is named in this program.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Base addresses as apt takes them (`http:`, `https:`, `mirror+file:`...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    pub main: String,
    pub security: String,
}

/// What the environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    pub mirror: Option<String>,
    pub security_mirror: Option<String>,
}

/// One archive of the host's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Mirrors {
    /// `etc` is `/etc` of the host.
    pub fn find(environment: &Environment, etc: &Path) -> Result<Mirrors> {
        let (mut main, mut security) = match release(etc) {
            Some(codename) => from_host(&entries(&etc.join("apt"))?, &codename),
            None => (None, None),
        };
        if let Some(mirror) = &environment.mirror {
            // A mirror that was asked for by hand is used alone: a build must not mix it with the host's by surprise.
            main = Some(mirror.clone());
            security = mirror.trim_end_matches('/').strip_suffix("/debian").map(|base| format!("{base}/debian-security"));
        }
        if let Some(mirror) = &environment.security_mirror {
            security = Some(mirror.clone());
        }
        match (main, security) {
            (Some(main), Some(security)) => Ok(Mirrors { main, security }),
            (None, _) => bail!("no Debian mirror: this host's apt has none configured; set DEBIAN_MIRROR (and DEBIAN_SECURITY_MIRROR)"),
            (Some(main), None) => {
                bail!("no mirror for Debian's security updates beside {main}: set DEBIAN_SECURITY_MIRROR")
            }
        }
    }

    /// The sources list of the private apt root.
    pub fn sources_list(&self, release: &str, keyring: &Path) -> String {
        let options = format!("[signed-by={}]", keyring.display());
        let Mirrors { main, security } = self;
        format!(
            "deb {options} {main} {release} main\n\
             deb {options} {main} {release}-updates main\n\
             deb {options} {security} {release}-security main\n"
        )
    }
}

/// Code name of the Debian release that runs here; `None` on another distribution.
fn release(etc: &Path) -> Option<String> {
    let text = std::fs::read_to_string(etc.join("os-release")).ok()?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

fn from_host(entries: &[Entry], codename: &str) -> (Option<String>, Option<String>) {
    let find = |suite: &str| {
        entries
            .iter()
            .find(|entry| entry.suite == suite && entry.components.iter().any(|c| c == "main") && is_debians(entry))
            .map(|entry| entry.uri.clone())
    };
    (find(codename), find(&format!("{codename}-security")))
}

/// Third parties use Debian's suite names as well, but bring their own key.
fn is_debians(entry: &Entry) -> bool {
    entry.signed_by.as_ref().is_none_or(|key| key.contains("debian-archive"))
}

fn entries(apt: &Path) -> Result<Vec<Entry>> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(directory) = std::fs::read_dir(apt.join("sources.list.d")) {
        let mut more: Vec<_> = directory.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        files.extend(more);
    }
    let mut found = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => one_line_style,
            Some("sources") => deb822_style,
            _ => continue,
        };
        if file.is_file() {
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            found.extend(parse(&text));
        }
    }
    Ok(found)
}

/// sources.list(5), one-line style: `deb [ options ] uri suite components`.
fn one_line_style(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ") else { continue };
        let (options, rest) = match rest.trim_start().strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
        let mut words = rest.split_whitespace().map(str::to_owned);
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            found.push(Entry { uri, suite, components: words.collect(), signed_by });
        }
    }
    found
}

/// sources.list(5), deb822 style: stanzas of fields, where URIs and suites are lists.
fn deb822_style(text: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for stanza in super::stanza::parse(text) {
        let list = |key: &str| stanza.get(key).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let enabled = !stanza.get("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if !enabled || !list("Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in list("URIs") {
            for suite in list("Suites") {
                let signed_by = stanza.get("Signed-By").map(str::to_owned);
                found.push(Entry { uri: uri.clone(), suite, components: list("Components"), signed_by });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = etc.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        etc
    }

    const BOOKWORM: (&str, &str) = ("os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");

    #[test]
    fn reads_deb822_and_leaves_third_parties_out() {
        let etc = host(&[
            BOOKWORM,
            (
                "apt/sources.list.d/a-vendor.sources",
                "Types: deb\nURIs: https://vendor.example\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/vendor.gpg\n",
            ),
            (
                "apt/sources.list.d/debian.sources",
                "Types: deb\n# a remark\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                 Types: deb deb-src\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main\n",
            ),
        ]);
        let mirrors = Mirrors::find(&Environment::default(), etc.path()).unwrap();
        assert_eq!(mirrors, Mirrors { main: "http://m.example/debian".into(), security: "http://m.example/debian-security".into() });
    }

    #[test]
    fn reads_one_line_style() {
        let etc = host(&[
            BOOKWORM,
            (
                "apt/sources.list",
                "# deb http://old.example/debian bookworm main\n\
                 deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] https://x.example bookworm main\n\
                 deb http://m.example/debian bookworm main contrib # as installed\n\
                 deb http://s.example/debian-security bookworm-security main\n",
            ),
        ]);
        let mirrors = Mirrors::find(&Environment::default(), etc.path()).unwrap();
        assert_eq!(mirrors, Mirrors { main: "http://m.example/debian".into(), security: "http://s.example/debian-security".into() });
    }

    #[test]
    fn the_environment_wins_and_implies_the_security_archive() {
        let etc = host(&[BOOKWORM, ("apt/sources.list", "deb http://m.example/debian bookworm main\n")]);
        let environment = Environment { mirror: Some("http://own.example/debian/".into()), security_mirror: None };
        let mirrors = Mirrors::find(&environment, etc.path()).unwrap();
        assert_eq!(mirrors, Mirrors { main: "http://own.example/debian/".into(), security: "http://own.example/debian-security".into() });
    }

    #[test]
    fn a_host_without_debian_sources_is_told_what_to_set() {
        let etc = host(&[("os-release", "ID=fedora\n")]);
        let error = Mirrors::find(&Environment::default(), etc.path()).unwrap_err().to_string();
        assert!(error.contains("DEBIAN_MIRROR"), "{error}");
        let environment = Environment { mirror: Some("http://own.example/mirror".into()), security_mirror: None };
        let error = Mirrors::find(&environment, etc.path()).unwrap_err().to_string();
        assert!(error.contains("DEBIAN_SECURITY_MIRROR"), "{error}");
    }
}
