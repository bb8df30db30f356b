//! What an image says of itself and of its accounts: os-release, image.json, the keys whose
//! updates it takes, and the templates of /etc.

use std::fmt::Write;

use anyhow::Result;
use machine::account::Account;
use machine::protocol::ImageFacts;
use update::TrustedKeys;

use crate::tree::Tree;

/// os-release(5).
pub fn os_release(facts: &ImageFacts) -> String {
    let ImageFacts { version, profile, architecture, .. } = facts;
    format!(
        "NAME=\"Corten\"\nID=corten\nPRETTY_NAME=\"Corten {version} ({profile})\"\nVERSION_ID=\"{version}\"\n\
         IMAGE_ID=corten-{profile}\nIMAGE_VERSION={version}\nVARIANT_ID={profile}\nARCHITECTURE={architecture}\n"
    )
}

/// Adds them to the root. Below /etc there is a tmpfs at run time, which stage 2 fills from the templates.
pub fn add(tree: &mut Tree, facts: &ImageFacts) -> Result<()> {
    let template = "/usr/share/corten/etc";
    tree.file("/usr/lib/os-release", os_release(facts))?;
    tree.file("/usr/share/corten/image.json", serde_json::to_string_pretty(facts)? + "\n")?;
    tree.link(&format!("{template}/os-release"), "../usr/lib/os-release")?;
    tree.file(&format!("{template}/passwd"), passwd())?;
    tree.file(&format!("{template}/group"), group())?;
    tree.file(&format!("{template}/nsswitch.conf"), NSSWITCH)?;
    tree.file(&format!("{template}/hosts"), HOSTS)?;
    tree.file(&format!("{template}/fstab"), "")?;
    tree.link(&format!("{template}/mtab"), "/proc/self/mounts")
}

/// Adds the keys whose updates the image takes.
pub fn trust(tree: &mut Tree, keys: &TrustedKeys) -> Result<()> {
    tree.file("/usr/share/corten/update-keys.json", serde_json::to_string_pretty(keys)? + "\n")
}

const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\nnetworks: files\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

/// passwd(5). Nobody can log in: there is no shell, and the field says so.
fn passwd() -> String {
    let mut text = String::new();
    for account in Account::ALL {
        let (name, id) = (account.name(), account.id());
        let _ = writeln!(text, "{name}:x:{id}:{id}::/:/usr/sbin/nologin");
    }
    text
}

fn group() -> String {
    let mut text = String::new();
    for account in Account::ALL {
        let _ = writeln!(text, "{}:x:{}:", account.name(), account.id());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_those_of_the_vocabulary() {
        assert!(passwd().starts_with("root:x:0:0::/:/usr/sbin/nologin\netcd:x:60:60::/"));
        assert!(group().ends_with("nobody:x:65534:\n"));
    }

    #[test]
    fn os_release_names_version_and_profile() {
        let facts = ImageFacts {
            version: "1.2.3".into(),
            profile: "worker".into(),
            architecture: "x86_64".into(),
            kubernetes: "v1.37.1".into(),
            etcd: "v3.7.3".into(),
            built_at: 1,
            partitions: Vec::new(),
        };
        let expected = "NAME=\"Corten\"\nID=corten\nPRETTY_NAME=\"Corten 1.2.3 (worker)\"\nVERSION_ID=\"1.2.3\"\n\
                        IMAGE_ID=corten-worker\nIMAGE_VERSION=1.2.3\nVARIANT_ID=worker\nARCHITECTURE=x86_64\n";
        assert_eq!(os_release(&facts), expected);
    }
}
