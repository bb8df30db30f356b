//! Programs of the build host: found, run, and when one is missing, named together with the Debian package that has it.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program that image-build starts, and the Debian package that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub program: &'static str,
    pub package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

pub const APT_GET: Tool = tool("apt-get", "apt");
pub const APT_CACHE: Tool = tool("apt-cache", "apt");
pub const APT_CONFIG: Tool = tool("apt-config", "apt");
pub const APT_HELPER: Tool = tool("apt-helper", "apt");
pub const DPKG_DEB: Tool = tool("dpkg-deb", "dpkg");
pub const DEPMOD: Tool = tool("depmod", "kmod");
pub const MKFS_EROFS: Tool = tool("mkfs.erofs", "erofs-utils");
pub const VERITYSETUP: Tool = tool("veritysetup", "cryptsetup-bin");
pub const MKFS_FAT: Tool = tool("mkfs.fat", "dosfstools");
pub const MLABEL: Tool = tool("mlabel", "mtools");
pub const MMD: Tool = tool("mmd", "mtools");
pub const MCOPY: Tool = tool("mcopy", "mtools");
pub const QEMU_IMG: Tool = tool("qemu-img", "qemu-utils");
pub const XORRISO: Tool = tool("xorriso", "xorriso");
pub const TAR: Tool = tool("tar", "tar");
pub const GZIP: Tool = tool("gzip", "gzip");
pub const SH: Tool = tool("sh", "dash");
pub const OPENSSL: Tool = tool("openssl", "openssl");
pub const CERT_TO_EFI_SIG_LIST: Tool = tool("cert-to-efi-sig-list", "efitools");
pub const SIGN_EFI_SIG_LIST: Tool = tool("sign-efi-sig-list", "efitools");
pub const SBSIGN: Tool = tool("sbsign", "sbsigntool");
pub const SBVERIFY: Tool = tool("sbverify", "sbsigntool");

/// What a build of any image starts.
pub const FOR_IMAGES: [Tool; 11] =
    [APT_GET, APT_CACHE, APT_CONFIG, DPKG_DEB, DEPMOD, MKFS_EROFS, VERITYSETUP, MKFS_FAT, MLABEL, MMD, MCOPY];

/// Directories that hold administration programs, which PATH of an ordinary Debian user lacks, and apt's own.
const MORE_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/lib/apt"];

impl Tool {
    fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(MORE_DIRECTORIES.map(PathBuf::from))
            .map(|directory| directory.join(self.program))
            .find(|candidate| candidate.is_file())
    }

    /// A command without input, in the C locale, because its messages are read.
    pub fn command(self) -> Result<Command> {
        let Some(program) = self.find() else { bail!(missing(&[self])) };
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
        Ok(command)
    }

    /// Runs it to its end and returns what it printed. Another exit code than 0 is an error that holds the end of its messages.
    pub fn run<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command()?;
        command.args(arguments);
        run(&mut command)
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Debian package {})", self.program, self.package)
    }
}

/// Runs a command to its end and returns its standard output.
pub fn run(command: &mut Command) -> Result<String> {
    let name = PathBuf::from(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = messages.lines().filter(|line| !line.trim().is_empty()).collect();
        let end = lines[lines.len().saturating_sub(6)..].join("; ");
        bail!("{name}: {}: {end}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Refuses to begin a long build that would end at a missing program.
pub fn check(tools: &[Tool]) -> Result<()> {
    let absent: Vec<Tool> = tools.iter().copied().filter(|tool| tool.find().is_none()).collect();
    if absent.is_empty() { Ok(()) } else { bail!(missing(&absent)) }
}

fn missing(tools: &[Tool]) -> String {
    let list: Vec<String> = tools.iter().map(Tool::to_string).collect();
    let mut packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    format!("not on this host: {}; install with: sudo apt-get install {}", list.join(", "), packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let error = check(&[tool("no-such-program-1", "erofs-utils"), tool("no-such-program-2", "erofs-utils"), DPKG_DEB]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not on this host: no-such-program-1 (Debian package erofs-utils), no-such-program-2 (Debian package erofs-utils); \
             install with: sudo apt-get install erofs-utils"
        );
    }

    #[test]
    fn a_failing_tool_shows_its_messages() {
        let error = DPKG_DEB.run(["--info", "/nonexistent.deb"]).unwrap_err().to_string();
        assert!(error.starts_with("dpkg-deb: exit status: 2: ") && error.contains("/nonexistent.deb"), "{error}");
    }
}
