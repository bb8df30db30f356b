//! Compiles the protos without protoc: the generated tonic code, the descriptor set, and the permission table from each method's
//! `access` option. A method without one fails the build here.

#[path = "build/access.rs"]
mod access;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is unset: run by cargo only")?);
    let proto = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(true).open_files(protos(&proto.join("corten/machine/v1"))?)?;

    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(compiler.file_descriptor_set())
        .context("generate code from the protos")?;

    let table = access::table(&compiler.descriptor_pool())?;
    fs::write(out.join("access.rs"), render(&table)).context("write the permission table")?;

    // Encoded by protox: prost's own descriptor types drop the `access` options.
    fs::write(out.join("descriptor_set.bin"), compiler.encode_file_descriptor_set()).context("write the descriptor set")
}

/// The proto files of a directory, sorted, so that the output does not depend on the file system.
fn protos(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The table as the Rust expression that `src/access.rs` includes.
fn render(rows: &[access::Row]) -> String {
    let mut text = String::from("&[\n");
    for access::Row { path, role, machines, maintenance, recovery } in rows {
        let people = format!("role: Role::{role}, machines: Machines::{machines}");
        let _ = writeln!(text, "    ({path:?}, Access {{ {people}, maintenance: {maintenance}, recovery: {recovery} }}),");
    }
    text.push(']');
    text
}
