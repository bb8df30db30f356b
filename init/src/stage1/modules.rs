//! Loads the modules of the initramfs, in the order that image-build wrote down.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use machine::Root;
use rustix::io::Errno;

use crate::console::Console;
use crate::files;

/// One absolute path a line, in load order.
const LIST: &str = "/usr/lib/modules.list";
/// `MODULE_INIT_COMPRESSED_FILE` (linux/module.h): the kernel decompresses.
const COMPRESSED: i32 = 4;

/// Loads all. One that does not load is shown: whether it was needed shows later.
pub fn load_all(root: &Root, console: &Console) -> Result<(), files::Error> {
    let path = root.path(LIST);
    let list = fs::read_to_string(&path).map_err(files::at("read", &path))?;
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Err(error) = load(&root.path(line)) {
            console.warning(&format!("module {line}: {error}"));
        }
    }
    Ok(())
}

fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = if path.extension().is_some_and(|extension| extension == "ko") { 0 } else { COMPRESSED };
    match rustix::system::finit_module(&file, c"", flags) {
        // Loaded already, no such hardware, or built on a module that found no such hardware (an unknown symbol): all are fine.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
