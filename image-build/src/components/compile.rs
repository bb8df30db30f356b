//! Runs `go build` for one component: all its files into one folder, with progress, and the compiler's words when it fails.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::progress::Progress;
use super::table::{Build, Component, stamp};
use super::toolchain;

/// Lines of compiler output that an error carries.
const TAIL: usize = 40;

/// Builds every file of `component` at `version` from the Go module in `folder` into the empty folder `bin`.
/// `jobs` limits how many compilers run at once; Go's default is one per processor.
pub fn compile(component: &Component, version: &str, folder: &Path, bin: &Path, jobs: Option<usize>, progress: &Progress) -> Result<()> {
    for build in &component.builds {
        // Go names its output after the package, so it gets a folder of its own.
        let outputs = tempfile::tempdir_in(bin).with_context(|| format!("making a folder in {}", bin.display()))?;
        let mut go = go_build(build, &component.stamps, version, folder)?;
        go.arg("-o").arg(outputs.path());
        if let Some(jobs) = jobs {
            go.arg("-p").arg(jobs.to_string());
        }
        go.args(build.files.values());
        follow(go, progress).with_context(|| format!("building component {}", component.name))?;
        for (name, package) in &build.files {
            let made = outputs.path().join(output_name(package, folder));
            ensure!(made.is_file(), "{}: go build of {package} left no file {}", component.name, made.display());
            std::fs::rename(&made, bin.join(name)).with_context(|| format!("moving {}", made.display()))?;
        }
    }
    Ok(())
}

/// `go build` with all flags that shape the output.
fn go_build(build: &Build, stamps: &BTreeMap<String, String>, version: &str, folder: &Path) -> Result<Command> {
    let mut linker = String::from("-s -w");
    for (variable, template) in stamps {
        linker.push_str(&format!(" -X {variable}={}", stamp(template, version)?));
    }
    let mut go = toolchain::command(folder);
    if build.cgo.is_some() {
        // The image has no shared libraries of the build host's release.
        linker.push_str(" -extldflags -static");
        go.env("CGO_ENABLED", "1");
    }
    let tags: Vec<&str> = build.tags.iter().map(String::as_str).collect();
    go.args(["build", "-v", "-trimpath", "-buildvcs=false", "-tags", &tags.join(","), "-ldflags", &linker]);
    Ok(go)
}

/// Runs the build; `go build -v` prints the name of each package that it compiles, and complaints.
fn follow(mut go: Command, progress: &Progress) -> Result<()> {
    let mut child = go.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("starting go")?;
    let stderr = child.stderr.take().context("reading the output of go")?;
    let mut complaints = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("reading the output of go")?;
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains([' ', '\t']) {
            progress.note(&line);
            complaints.push_back(line);
            if complaints.len() > TAIL {
                complaints.pop_front();
            }
        } else if !line.is_empty() {
            progress.package(&line);
        }
    }
    let status = child.wait().context("waiting for go")?;
    if !status.success() {
        let text: Vec<String> = complaints.into();
        bail!("go build ended with {status}:\n{}", text.join("\n"));
    }
    Ok(())
}

/// The file name that `go build` gives the program of a package: its last path element that is not a major version.
fn output_name(package: &str, folder: &Path) -> String {
    let is_major = |part: &str| part.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    let last = package.rsplit('/').find(|part| !is_major(part)).unwrap_or(package);
    match last {
        // The module itself; ours are called after their folder.
        "." => folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_names_are_those_of_go() {
        let folder = Path::new("/x/components/coredns");
        assert_eq!(output_name("go.etcd.io/etcd/server/v3", folder), "server");
        assert_eq!(output_name("github.com/opencontainers/runc", folder), "runc");
        assert_eq!(output_name("./controlplane", folder), "controlplane");
        assert_eq!(output_name(".", folder), "coredns");
    }

    #[test]
    fn flags_carry_tags_stamps_and_linkage() {
        let table = super::super::table::parse(
            "[[component]]\nname = \"x\"\nmodule = \"a/x\"\nstamps = { \"a/x.V\" = \"{number}\" }\n[[component.build]]\ntags = [\"q\", \"p\"]\nfiles = { x = \"a/x\" }\ncgo = { libraries = [\"libseccomp\"] }\n",
        )
        .expect("valid table");
        let component = &table.components[0];
        let go = go_build(&component.builds[0], &component.stamps, "v1.2.3", Path::new(".")).expect("command");
        let arguments: Vec<String> = go.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(
            arguments,
            ["build", "-v", "-trimpath", "-buildvcs=false", "-tags", "p,q", "-ldflags", "-s -w -X a/x.V=1.2.3 -extldflags -static"]
        );
        let cgo = go.get_envs().find(|(name, _)| *name == "CGO_ENABLED").and_then(|(_, value)| value);
        assert_eq!(cgo, Some(std::ffi::OsStr::new("1")));
    }
}
