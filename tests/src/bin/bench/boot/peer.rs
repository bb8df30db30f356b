//! The peer: Debian with systemd and a dracut initramfs, made from Debian's packages by mmdebstrap, with the kernel package that our image
//! has. Needs root: packages are configured in a chroot. Nothing of the host is changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::place;
use anyhow::{Context, ensure};
use serde::Deserialize;
use testbed::{Accelerator, Boot, Disk, DiskFormat, Lifetime, Machine};

use super::kernel::Kernel;

const RELEASE: &str = "trixie";
/// The least that is a Debian with systemd: it pulls in no service that a node would do without. zstd: dracut uses it when it is there,
/// and gzip, which is slower to unpack, when not.
const PACKAGES: &str = "systemd-sysv,udev,dbus,kmod,dracut,zstd";
const SERVICE: &str = include_str!("report-boot.service");
const DISK_BYTES: u64 = 2 << 30;

#[derive(Debug, Clone, Copy)]
pub enum Initramfs {
    /// With the drivers of this machine's disk only.
    Lean,
    /// For any machine, as dracut makes it for images.
    Usual,
}

impl Initramfs {
    const ALL: [Initramfs; 2] = [Initramfs::Lean, Initramfs::Usual];

    fn file(self) -> &'static str {
        match self {
            Initramfs::Lean => "initramfs-lean",
            Initramfs::Usual => "initramfs-usual",
        }
    }

    fn arguments(self) -> &'static str {
        match self {
            Initramfs::Lean => "--no-hostonly --drivers virtio_blk",
            Initramfs::Usual => "--no-hostonly",
        }
    }
}

#[derive(Debug)]
pub struct Peer {
    folder: PathBuf,
    pub disk: PathBuf,
    /// `systemd 257..., dracut 106...`
    pub versions: String,
}

impl Peer {
    /// Makes it in `folder`, unless it is there for this kernel and by this recipe.
    pub fn prepare(folder: &Path, kernel: &Kernel) -> anyhow::Result<Peer> {
        let recipe = format!("{} {PACKAGES} {:?}\n{SERVICE}", kernel.release, Initramfs::ALL.map(Initramfs::arguments));
        let (made, versions) = (folder.join("recipe"), folder.join("versions"));
        if fs::read_to_string(&made).ok().as_deref() != Some(&recipe) {
            if folder.exists() {
                fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
            }
            fs::create_dir_all(folder)?;
            make(folder, kernel).context("making the Debian that boots beside ours")?;
            fs::write(&made, &recipe)?;
        }
        let versions = fs::read_to_string(&versions).with_context(|| format!("reading {}", versions.display()))?.trim().to_owned();
        Ok(Peer { folder: folder.to_owned(), disk: folder.join("disk.raw"), versions })
    }

    pub fn initramfs(&self, kind: Initramfs) -> PathBuf {
        self.folder.join(kind.file())
    }
}

/// When multi-user.target was reached, in seconds since kernel entry, from what the service printed.
pub fn reached(console: &str) -> Option<f64> {
    let (_, value) = console.split_once("ActiveEnterTimestampMonotonic=")?;
    let microseconds: f64 = value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    (microseconds > 0.0).then_some(microseconds / 1e6)
}

/// How long it took from being asked to restart until the kernel did, in seconds.
pub fn stopped(console: &str) -> Option<f64> {
    let (_, asked) = console.split_once("Asked=")?;
    let asked: f64 = asked.split_whitespace().next()?.parse().ok()?;
    Some(super::restarted(console)? - asked)
}

fn make(folder: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "expected root: Debian's packages are configured in a chroot");
    eprintln!("bench: making the Debian to compare with, in {} (as root, in a chroot)", folder.display());
    // image-build's private apt root: the same mirrors, the same signature check.
    let apt = place::repository().join("build/apt/etc");
    let sources = File::open(apt.join("sources.list")).with_context(|| format!("{}: make image", apt.display()))?;
    let tree = folder.join("tree");
    fs::write(folder.join("report-boot.service"), SERVICE)?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--include", PACKAGES]);
    for option in host_settings(&apt.join("apt.conf"))? {
        command.arg(format!("--aptopt={option}"));
    }
    for hook in hooks(folder, kernel)? {
        command.arg(format!("--customize-hook={hook}"));
    }
    command.arg(RELEASE).arg(&tree).arg("-").stdin(sources);
    run(&mut command, "mmdebstrap")?;

    let disk = folder.join("disk.raw");
    File::create(&disk)?.set_len(DISK_BYTES)?;
    run(Command::new("mkfs.ext4").args(["-q", "-d"]).arg(&tree).arg(&disk), "e2fsprogs")?;
    fs::remove_dir_all(&tree).with_context(|| format!("removing {}", tree.display()))?;
    settle(folder, kernel)
}

/// What mmdebstrap does in the installed system; `$1` is its root. /proc, /sys and /dev are there, as dracut needs them.
fn hooks(folder: &Path, kernel: &Kernel) -> anyhow::Result<Vec<String>> {
    let (package, release) = (kernel_package(&kernel.release)?, &kernel.release);
    let folder = folder.to_str().context("a path that is not UTF-8")?;
    let package = package.to_str().context("a path that is not UTF-8")?;
    let mut hooks = vec![
        format!("dpkg-deb -x '{package}' \"$1\""),
        format!("chroot \"$1\" depmod {release}"),
        "echo '/dev/vda / ext4 rw 0 1' > \"$1/etc/fstab\"".to_owned(),
        format!("copy-in '{folder}/report-boot.service' /etc/systemd/system"),
        "chroot \"$1\" systemctl --quiet enable report-boot.service".to_owned(),
        format!("chroot \"$1\" dpkg-query -W -f '${{Package}} ${{Version}}, ' systemd dracut | sed 's/, $//' > '{folder}/versions'"),
    ];
    for kind in Initramfs::ALL {
        let file = kind.file();
        hooks.push(format!("chroot \"$1\" dracut --quiet --force {} --kver {release} /{file}", kind.arguments()));
        hooks.push(format!("mv \"$1/{file}\" '{folder}/{file}'"));
    }
    Ok(hooks)
}

/// The Debian package of the kernel that our image has, as image-build keeps it.
fn kernel_package(release: &str) -> anyhow::Result<PathBuf> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        sha256: String,
    }
    let path = place::repository().join("configs/packages.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let name = format!("linux-image-{release}");
    let package = lock.package.into_iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("{} has no {name}: make image", path.display()))?;
    let path = place::repository().join(format!("build/apt/archives/{}.deb", package.sha256));
    ensure!(path.is_file(), "{} is not there: make image", path.display());
    Ok(path)
}

/// How the host reaches its mirror, as image-build wrote it down: `Acquire::http::Proxy "..."`.
fn host_settings(configuration: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(configuration).with_context(|| format!("reading {}", configuration.display()))?;
    Ok(text.lines().filter(|line| line.starts_with("Acquire::")).map(|line| line.trim_end_matches(';').to_owned()).collect())
}

/// Boots it once, so that what a system does on its very first boot is done.
fn settle(folder: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let boot = Boot::Kernel {
        kernel: kernel.path.clone(),
        initrd: Some(folder.join(Initramfs::Usual.file())),
        command_line: format!("{} root=/dev/vda rw", kernel.common_command_line()),
    };
    let disk = Disk::File { path: folder.join("disk.raw"), format: DiskFormat::Raw };
    let directory = tempfile::Builder::new().prefix("corten-bench-settle-").tempdir()?;
    let spec = super::machine("peer", boot, disk);
    let machine = Machine::start(&spec, directory.path(), &[Accelerator::Tcg], Lifetime::Bounded(super::LIMIT))?;
    machine.wait_off(super::LIMIT)?;
    let console = machine.console();
    reached(&console.text()?).with_context(|| format!("the peer's first boot did not come to its end:\n{}", console.tail()))?;
    Ok(())
}

fn run(command: &mut Command, package: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}; install {package}"))?;
    ensure!(output.status.success(), "{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_says_when_it_was_up() {
        assert_eq!(reached("x\n[?7hActiveEnterTimestampMonotonic=18651307\r\n"), Some(18.651307));
        assert_eq!(reached("ActiveEnterTimestampMonotonic=0\n"), None, "not reached when it was asked");
        assert_eq!(reached("[    1.0] Linux version"), None);
    }

    #[test]
    fn the_peer_says_when_it_was_asked_to_restart() {
        let console = "Asked=20.25 1.00\r\n[   20.300000] x\r\n[   23.750000] reboot: Restarting system\r\n";
        assert_eq!(stopped(console), Some(3.5));
        assert_eq!(stopped("[   23.750000] reboot: Restarting system\n"), None);
        assert_eq!(stopped("Asked=20.25 1.00\n"), None);
    }

    #[test]
    fn the_lock_names_the_kernel_of_images() {
        let error = kernel_package("0.0.0-none").unwrap_err().to_string();
        assert!(error.contains("linux-image-0.0.0-none"), "{error}");
    }
}
