//! Goldens: what a test prints is compared with a file beside it; `CORTEN_GOLDEN=1` writes the file instead.

use std::path::Path;

pub fn check(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{} differs; run with CORTEN_GOLDEN=1 and read the diff\n{text}", path.display());
}
