//! Speaks to the kernel: modprobe for modules, /proc/sys for sysctls.

use std::path::PathBuf;

use anyhow::Context;
use machine::Root;
use machine::config::KernelModule;
use tokio::process::Command;

/// modprobe knows a module's dependencies and which ones are built in.
pub async fn load(root: &Root, module: &KernelModule) -> anyhow::Result<()> {
    let mut command = Command::new(root.path("/usr/sbin/modprobe"));
    command.arg("--").arg(&module.name).args(&module.parameters);
    let output = command.output().await.with_context(|| format!("running modprobe for {}", module.name))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "module {}: {}", module.name, said.trim());
    Ok(())
}

pub fn set(root: &Root, name: &str, value: &str) -> anyhow::Result<()> {
    std::fs::write(path(root, name), value).with_context(|| format!("machine.kernel.sysctls: setting {name} to {value:?}"))
}

pub fn read(root: &Root, name: &str) -> Option<String> {
    std::fs::read_to_string(path(root, name)).ok()
}

/// Dots separate; a dot within a name (a VLAN's link) is written as a slash, as sysctl(8) has it.
fn path(root: &Root, name: &str) -> PathBuf {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    root.path(&format!("/proc/sys/{}", name.chars().map(swap).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths() {
        let root = Root::new("/");
        assert_eq!(path(&root, "net.ipv4.ip_forward"), PathBuf::from("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(path(&root, "net.ipv4.conf.eth0/5.rp_filter"), PathBuf::from("/proc/sys/net/ipv4/conf/eth0.5/rp_filter"));
    }

    #[test]
    fn set_is_read_back_and_errors_name_the_field() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.path("/proc/sys/vm")).unwrap();
        set(&root, "vm.swappiness", "10").unwrap();
        assert_eq!(read(&root, "vm.swappiness").as_deref(), Some("10"));
        let error = set(&root, "no.such", "1").unwrap_err();
        assert!(error.to_string().contains("machine.kernel.sysctls: setting no.such"), "{error:#}");
    }

    #[tokio::test]
    async fn modprobe_gets_name_and_parameters_and_its_complaint_is_shown() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let modprobe = root.path("/usr/sbin/modprobe");
        std::fs::create_dir_all(modprobe.parent().unwrap()).unwrap();
        std::fs::write(&modprobe, "#!/bin/sh\necho \"no $*\" >&2\ntest \"$2\" = dummy\n").unwrap();
        std::fs::set_permissions(&modprobe, std::fs::Permissions::from_mode(0o755)).unwrap();
        let module = |name: &str| KernelModule { name: name.to_owned(), parameters: vec!["numdummies=2".to_owned()] };
        load(&root, &module("dummy")).await.unwrap();
        let error = load(&root, &module("nonesuch")).await.unwrap_err();
        assert!(error.to_string().ends_with("no -- nonesuch numdummies=2"), "{error:#}");
    }
}
