//! PID 1 of a Corten machine. The same program runs twice in a boot: as `/init` of the initramfs (stage 1), where it finds and verifies the
//! root, and as `/usr/sbin/init` of that root (stage 2), where it prepares the kernel, opens the volumes and supervises services.

mod block;
mod cgroup;
mod clock;
mod cmdline;
mod console;
mod event_loop;
mod files;
#[cfg(test)]
mod golden;
mod gpt;
mod installation;
mod loader;
mod log;
mod mount;
mod power;
mod process;
mod server;
mod shutdown;
mod stage1;
mod stage2;
mod step;
mod supervisor;
mod sys;
mod trial;
mod uevent;
mod volume;
mod watchdog;

use std::env::args_os;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use machine::Root;

/// image-build puts this file into the initramfs, and only there.
const INITRAMFS_MARK: &str = "/etc/initrd-release";

fn main() -> ExitCode {
    let mut arguments = args_os().skip(1);
    let first = arguments.next();
    let first = first.as_deref().and_then(|argument| argument.to_str());
    if rustix::process::getpid().is_init() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        if Path::new(INITRAMFS_MARK).exists() { stage1::run() } else { stage2::run() }
    }
    match (first, arguments.next().map(PathBuf::from)) {
        (Some(stage2::drivers::COLDPLUG), None) => match stage2::drivers::coldplug(&Root::new("/")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("init: load drivers: {error}");
                ExitCode::FAILURE
            }
        },
        (Some("supervise"), Some(directory)) => event_loop::supervise(directory),
        _ => {
            eprintln!("init is started by the kernel. For tests: init supervise DIRECTORY");
            ExitCode::from(2)
        }
    }
}
