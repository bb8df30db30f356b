//! A whole update file, as machinectl opens one.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use update::{PartName, UpdateFile};

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("room for a temporary file");
    let Ok(update) = UpdateFile::read(file) else { return };
    let manifest = update.manifest().peek();
    manifest.check().expect("what was read keeps the rules");
    for name in PartName::ALL {
        let mut part = Vec::new();
        if update.copy_part(name, &mut part).is_ok() {
            assert_eq!(part.len() as u64, manifest.part(name).expect("each part is there").size_bytes);
        }
    }
});
