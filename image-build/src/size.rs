//! `image-build size`: what an image weighs on its way over a network.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args as ClapArgs;

/// What an update carries: the root and the UKI. The verity tree follows from the root.
const CARRIED: [&str; 2] = ["root.erofs", "uki.efi"];

/// Shows what an image weighs, plain and compressed with zstd.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Output folder of the image
    #[arg(long, value_name = "DIR")]
    image: PathBuf,
    /// Level of zstd
    #[arg(long, default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

pub fn run(args: &Args) -> Result<()> {
    let (mut plain, mut packed) = (0, 0);
    println!("{:12} {:>12} {:>14}", "file", "bytes", format!("zstd -{}", args.level));
    for name in CARRIED {
        let path = args.image.join(name);
        let bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
        let compressed = compressed(&path, args.level)?;
        println!("{name:12} {bytes:>12} {compressed:>14}");
        plain += bytes;
        packed += compressed;
    }
    println!("{:12} {plain:>12} {packed:>14}", "together");
    Ok(())
}

fn compressed(path: &Path, level: i32) -> Result<u64> {
    let reading = || format!("compressing {}", path.display());
    let mut encoder = zstd::Encoder::new(Counter(0), level).with_context(reading)?;
    // Two jobs, as many as small machines have processors; more would cut the content into more pieces and change the figure.
    encoder.multithread(2).with_context(reading)?;
    io::copy(&mut File::open(path).with_context(reading)?, &mut encoder).with_context(reading)?;
    Ok(encoder.finish().with_context(reading)?.0)
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
