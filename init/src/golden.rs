//! Compares what a test prints with the file that is kept of it. `CORTEN_GOLDEN=1` (`make golden`) rewrites the files instead.

use std::fmt::Write;
use std::path::Path;

use crate::step::{Phase, Step};

/// `name` is a path under `init/src`.
pub fn check(name: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("below src")).expect("make the golden's directory");
        std::fs::write(&path, printed).expect("write the golden");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == printed, "{name} is kept as\n{kept}\nbut now it is\n{printed}\n`make golden` accepts the change");
}

/// A sequence as text: one line a phase, one a step with its answer.
pub fn sequence<S: Step>(phases: &[Phase<S>]) -> String {
    let mut text = String::new();
    for phase in phases {
        let _ = writeln!(text, "{}", phase.name);
        for step in &phase.steps {
            let _ = writeln!(text, "  {:<58} on error: {}", step.name(), step.answer());
        }
    }
    text
}
