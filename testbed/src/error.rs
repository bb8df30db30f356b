//! What can go wrong with a machine on the host's side.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("start {program}; expected it in PATH (Debian: {package})")]
    Program {
        program: String,
        package: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} ended with {status}: {output}")]
    Tool { program: String, status: String, output: String },
    #[error("a disk of {asked} bytes is too small for {}; expected at least {needed}", image.display())]
    DiskTooSmall { asked: u64, needed: u64, image: PathBuf },
    #[error("a disk of {size_bytes} bytes in sectors of {sector_bytes}; expected sectors of 512 or 4096 bytes, and a whole number of them")]
    Sectors { size_bytes: u64, sector_bytes: u64 },
    #[error("no UEFI firmware at any of {looked_at}; install it (Debian: ovmf, Fedora: edk2-ovmf, Arch: edk2-ovmf)")]
    NoFirmware { looked_at: String },
    #[error("{} holds no UEFI variables; expected a firmware volume with a store of authenticated variables", path.display())]
    NoVariables { path: PathBuf },
    #[error("{} is no signed variable; expected a date, a signature and the variable's value (`image-build keys new --secure-boot`)", path.display())]
    NoSignedVariable { path: PathBuf },
    #[error("CORTEN_ACCEL={value:?}: expected kvm, tcg or icount")]
    UnknownAccelerator { value: String },
    #[error("the machine {name} ended while waiting for {awaited}; last lines of its console:\n{tail}")]
    Ended { name: String, awaited: String, tail: String },
    #[error("waited {} s for {awaited} of the machine {name}; last lines of its console:\n{tail}", waited.as_secs())]
    Deadline { name: String, awaited: String, waited: Duration, tail: String },
    #[error("QMP {command}: {reason}")]
    Qmp { command: String, reason: String },
    #[error("{0}")]
    Segment(String),
    #[error("no free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
}

impl Error {
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }
}
