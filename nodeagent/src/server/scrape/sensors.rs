//! What the machine's sensors of temperature say, for scrapers. They are read on a thread that may wait for them, by one reader at a time: a sensor
//! that hangs holds up nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use machine::Root;
use metrics::temperature::{self, Temperature};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// For so long what was read serves further scrapers.
const FRESH: Duration = Duration::from_secs(5);
/// How long a scraper waits for the sensors; the figures from before serve him, unless they are older than [`OLD`].
const DEADLINE: Duration = Duration::from_secs(2);
const OLD: Duration = Duration::from_secs(60);

type Told = Option<(Instant, Arc<Vec<Temperature>>)>;

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Sensors {
    told: Arc<Mutex<Told>>,
    reading: Arc<Semaphore>,
}

impl Default for Sensors {
    fn default() -> Sensors {
        Sensors { told: Arc::default(), reading: Arc::new(Semaphore::new(1)) }
    }
}

impl Sensors {
    /// What they say now, or said a moment ago; `None` where they have not answered.
    pub async fn read(&self, root: &Root) -> Option<Arc<Vec<Temperature>>> {
        if let Some(fresh) = self.told_within(FRESH) {
            return Some(fresh);
        }
        // A reader that is still at it is waited for by nobody else.
        if let Ok(turn) = self.reading.clone().try_acquire_owned() {
            let (told, sys) = (self.told.clone(), root.path("/sys"));
            let reading = tokio::task::spawn_blocking(move || {
                let read = Arc::new(temperature::read(&sys));
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), read));
                drop(turn);
            });
            // It goes on by itself.
            let _ = timeout(DEADLINE, reading).await;
        }
        self.told_within(OLD)
    }

    fn told_within(&self, age: Duration) -> Option<Arc<Vec<Temperature>>> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, temperatures)| temperatures.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_sensor_that_hangs_holds_up_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let zone = directory.path().join("sys/class/thermal/thermal_zone0");
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("type"), "acpitz\n").unwrap();
        // Whoever opens it waits until somebody writes.
        nix::unistd::mkfifo(&zone.join("temp"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sensors, root) = (Sensors::default(), Root::new(directory.path()));
        assert_eq!(sensors.read(&root).await, None);
        assert_eq!(sensors.read(&root).await, None, "another reader waits as well");
        assert_eq!(sensors.reading.available_permits(), 0);
        fs::write(zone.join("temp"), "47500\n").unwrap();
        let _turn = sensors.reading.acquire().await.unwrap();
        assert_eq!(sensors.told_within(OLD).map(|told| told[0].celsius), Some(47.5));
    }
}
