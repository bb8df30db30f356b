//! What the tests share: the program, the workspace, stand-ins for what is built before an image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_image-build");

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The package cache that builds by hand use as well.
pub fn cache() -> PathBuf {
    workspace().join("build/apt")
}

pub fn profile() -> PathBuf {
    workspace().join("configs/profiles/bare.toml")
}

/// The program, run at the top of the workspace, without what the environment says of mirrors and dates.
pub fn image_build() -> Command {
    cleared(Command::new(PROGRAM))
}

pub fn cleared(mut command: Command) -> Command {
    command.current_dir(workspace());
    for variable in ["DEBIAN_ARCHIVE_MIRROR", "SOURCE_DATE_EPOCH"] {
        command.env_remove(variable);
    }
    command
}

/// Arguments of a build of the bare image.
pub fn image_arguments(binaries: &Path, out: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let arguments =
        ["-q", "image", "--profile", &path(&profile()), "--apt", &path(&cache()), "--binaries", &path(binaries), "--out", &path(out)];
    arguments.map(str::to_owned).to_vec()
}

/// `init` and `nodeagent` that end at once.
pub fn binaries() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["init", "nodeagent"] {
        let path = directory.path().join(name);
        fs::write(&path, static_program()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// An ELF file without a dynamic section: one loaded segment with `exit(0)`.
fn static_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code = [0x31, 0xff, 0xb8, 0x3c, 0, 0, 0, 0x0f, 0x05];
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // e_type, e_machine, e_version; e_entry, e_phoff, e_shoff; e_flags; sizes and numbers of headers
    file.extend([2_u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file.extend([BASE + HEADERS, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    // PT_LOAD, readable and executable; p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
    file.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([0, BASE, BASE, size, size, 0x1000].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(code);
    file
}

/// What the program said on standard error; it must have failed.
pub fn refusal(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "expected a refusal: {text}");
    text
}

pub fn succeeded(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A copy of the workspace's package lock with changes.
pub fn changed_lock(at: &Path, change: impl Fn(&mut toml::Table)) -> PathBuf {
    let text = fs::read_to_string(workspace().join("configs/packages.lock")).unwrap();
    let mut lock: toml::Table = toml::from_str(&text).unwrap();
    for package in lock["package"].as_array_mut().unwrap() {
        change(package.as_table_mut().unwrap());
    }
    let path = at.join("packages.lock");
    fs::write(&path, toml::to_string(&lock).unwrap()).unwrap();
    path
}
