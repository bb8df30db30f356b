//! What the machine's sensors of temperature say, read on a thread that may wait for them: a sensor sits on a bus or a disk.

use std::time::Duration;

use machine::Root;
use metrics::temperature::{self, Temperature};

/// How long what they say serves further scrapers.
pub const FRESH: Duration = Duration::from_secs(5);

/// `None` where the thread has failed.
pub async fn ask(root: Root) -> Option<Vec<Temperature>> {
    tokio::task::spawn_blocking(move || temperature::read(&root.path("/sys"))).await.ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::asked::Asked;
    use super::*;

    #[tokio::test]
    async fn a_sensor_that_hangs_holds_up_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let zone = directory.path().join("sys/class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("type"), "acpitz\n").unwrap();
        // Whoever opens it waits until somebody writes.
        nix::unistd::mkfifo(&zone.join("temp"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (asked, root) = (Asked::new(FRESH), Root::new(directory.path()));
        assert_eq!(asked.get(ask(root.clone())).await, None);
        assert_eq!(asked.get(ask(root.clone())).await, None, "another reader waits as well");
        assert!(asked.is_asking());
        fs::write(zone.join("temp"), "47500\n").unwrap();
        asked.answered().await;
        assert_eq!(asked.get(ask(root)).await.map(|told| told[0].celsius), Some(47.5));
    }
}
