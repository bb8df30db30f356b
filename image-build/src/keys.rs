//! `image-build keys new`: the key that signs update files and, when asked for, the keys and certificates of Secure Boot. A key that is
//! there is never touched: machines trust it.

mod secure_boot;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use update::SigningKey;

pub use secure_boot::ENROLLED;

/// Makes keys for images
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes an update key and, when asked for, keys for Secure Boot
    New(New),
}

#[derive(Debug, ClapArgs)]
struct New {
    /// Folder for the keys; what is in it is never overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also makes platform, exchange and signature keys (PK, KEK, db), their certificates, and what systemd-boot enrols them from
    #[arg(long)]
    secure_boot: bool,
    /// Certificate (PEM) that firmware shall trust besides the new one, such as that of a card's option ROM
    #[arg(long, value_name = "FILE", requires = "secure_boot")]
    also_trust: Vec<PathBuf>,
}

/// Private Ed25519 key (PKCS#8, PEM), for its owner only.
const UPDATE_KEY: &str = "update.key";
/// Its public half: base64 of 32 bytes, as `machine.upgrade.trustedKeys` takes it.
const UPDATE_PUBLIC: &str = "update.pub";
const SECURE_BOOT: &str = "secure-boot";

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::New(new) => make(new),
    }
}

fn make(new: &New) -> Result<()> {
    let names: &[&str] = if new.secure_boot { &[UPDATE_KEY, UPDATE_PUBLIC, SECURE_BOOT] } else { &[UPDATE_KEY, UPDATE_PUBLIC] };
    for name in names {
        let path = new.out.join(name);
        if path.symlink_metadata().is_ok() {
            bail!("{} is there already and is not overwritten: choose another --out, or move it away", path.display());
        }
    }
    fs::create_dir_all(&new.out).with_context(|| format!("making {}", new.out.display()))?;
    // Made elsewhere in the folder and then named: a run that is cut short leaves no half of a pair.
    let partial = tempfile::Builder::new().prefix(".new-").tempdir_in(&new.out).context("making a folder for new keys")?;
    let key = SigningKey::generate().context("making an update key")?;
    write(&partial.path().join(UPDATE_KEY), key.to_pem().as_bytes(), 0o600)?;
    write(&partial.path().join(UPDATE_PUBLIC), format!("{}\n", key.public()).as_bytes(), 0o644)?;
    if new.secure_boot {
        secure_boot::make(&partial.path().join(SECURE_BOOT), &new.also_trust)?;
    }
    for name in names {
        publish(&partial.path().join(name), &new.out.join(name))?;
        println!("{}", new.out.join(name).display());
    }
    File::open(&new.out).and_then(|folder| folder.sync_all()).with_context(|| format!("syncing {}", new.out.display()))
}

/// Writes a new file with this mode, whatever the umask.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path).with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    file.sync_all().with_context(writing)
}

fn publish(from: &Path, to: &Path) -> Result<()> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => bail!("{} has appeared meanwhile and is not overwritten", to.display()),
        result => result.with_context(|| format!("writing {}", to.display())),
    }
}
