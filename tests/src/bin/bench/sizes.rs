//! What our programs and images weigh: programs as the release profile links them, images as an update carries them.

use std::fs;
use std::path::Path;
use std::process::Command;

use ::tests::{place, program};
use anyhow::Context;
use serde_json::json;

use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::programs;
use crate::samples::Samples;

const PROGRAMS: [(&str, f64); 2] = [(programs::INIT, 2.0), (programs::AGENT, 12.0)];
const IMAGES: [(&str, f64); 3] = [("bare", 25.0), ("controlplane", 100.0), ("worker", 75.0)];

pub fn measure() -> anyhow::Result<Outcome> {
    let mut figures = Vec::new();
    for (name, goal) in PROGRAMS {
        let path = programs::released(name);
        let bytes = fs::metadata(&path).with_context(|| programs::remedy(&path))?.len();
        figures.push(Figure::alone(format!("{name}, release"), Unit::Megabytes, megabytes(bytes), Goal::AtMost(goal)));
    }
    let mut details = json!({});
    for (name, goal) in IMAGES {
        let directory = programs::image(name);
        programs::check(&directory)?;
        let printed = weigh(&directory)?;
        let packed = together(&printed).with_context(|| format!("no sum in what image-build printed:\n{printed}"))?;
        figures.push(Figure::alone(format!("image {name}, zstd -19"), Unit::Megabytes, megabytes(packed), Goal::AtMost(goal)));
        details[name] = printed.into();
    }
    let notes = vec!["images: root.erofs and uki.efi together, which is what an update carries".to_owned()];
    Ok(Outcome { figures, notes, details })
}

fn weigh(image: &Path) -> anyhow::Result<String> {
    program::printed(Command::new(place::repository().join("target/debug/image-build")).arg("size").arg("--image").arg(image))
}

/// The last number of the line that begins with `together`: bytes after compression.
fn together(printed: &str) -> Option<u64> {
    printed.lines().find(|line| line.starts_with("together"))?.split_whitespace().last()?.parse().ok()
}

fn megabytes(bytes: u64) -> Samples {
    Samples::exact(bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_last_number() {
        let printed = "file                bytes       zstd -19\nroot.erofs       32673792        9000000\ntogether         45723136       21000000\n";
        assert_eq!(together(printed), Some(21_000_000));
        assert_eq!(together("root.erofs 1 2\n"), None);
    }
}
