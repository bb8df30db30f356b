//! The list of all parts of an image with versions and licences: made with the image, shown by `image-build sbom`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

pub mod copyright;
mod crates;
mod document;
mod gather;
pub mod host;
pub mod licence;
mod parts;
mod programs;
mod table;

use document::{Document, NO_ASSERTION};
use parts::Parts;

use crate::lock::Package;
use crate::plan::Inputs;
use crate::profile::Profile;

/// Name of the file in the image's output folder.
pub const FILE: &str = "sbom.spdx.json";

/// Shows what an image consists of.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Output folder of the image
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Lists every part with version and licence, instead of totals
    #[arg(long)]
    table: bool,
}

/// Prints the parts of a finished image.
pub fn run(args: &Args) -> Result<()> {
    let path = args.image.join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}; building an image writes it", path.display()))?;
    let document: Document = serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    if args.table {
        print!("{}", table::table(&document));
    } else {
        let unknown = document.packages.iter().filter(|package| package.license_declared == NO_ASSERTION).count();
        // The image itself is one of the packages and has no licence of its own.
        println!("{}: {} parts, {} with unknown licence; --table lists them", path.display(), document.packages.len() - 1, unknown - 1);
    }
    Ok(())
}

/// What an SBOM is made from.
#[derive(Debug)]
pub struct Request<'a> {
    pub profile: &'a Profile,
    pub inputs: &'a Inputs,
    /// Folder of the workspace's Cargo.lock.
    pub workspace: &'a Path,
    pub root_hash: &'a str,
    /// Debian packages that something was taken from, with their .deb files.
    pub packages: &'a [(Package, PathBuf)],
}

/// Lists the parts and writes [`FILE`] into `folder`.
pub fn write(request: &Request<'_>, folder: &Path) -> Result<()> {
    let Request { profile, inputs, workspace, root_hash, packages } = request;
    let mut parts = Parts {
        image: format!("corten-{}-{}", profile.name, profile.architecture),
        version: inputs.version.clone(),
        root_hash: (*root_hash).to_owned(),
        created: inputs.date,
        tool: concat!("image-build-", env!("CARGO_PKG_VERSION")).to_owned(),
        ..Parts::default()
    };
    gather::debian(&mut parts, packages)?;
    let target = format!("{}-unknown-linux-gnu", profile.architecture);
    let sources = gather::Sources { workspace, components: &inputs.components, target: &target };
    for program in programs::of_image(profile, inputs)? {
        gather::program(&mut parts, &program, &sources)?;
    }
    let mut text = serde_json::to_string_pretty(&document::render(&parts)?).context("writing JSON")?;
    text.push('\n');
    let path = folder.join(FILE);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
