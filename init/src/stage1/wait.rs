//! Waits for what the machine boots from to appear, loading drivers one by one.

use std::fmt::Display;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::console::Console;
use crate::{clock, uevent};

/// Longer than spinning disks behind a controller, and optical drives with a medium just put in, take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A safety net: every change comes with an event.
const LOOK_AGAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Looks until something is found or patience ends, after each change of the machine's devices. `load_driver` loads one more driver, as
/// long as there is one.
pub fn until_found<T, E: Display>(
    console: &Console,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
    mut load_driver: impl FnMut() -> bool,
) -> Result<T, E> {
    // Opened before the first look, so that nothing falls between the two.
    let events = uevent::open().ok();
    let deadline = clock::since_boot() + PATIENCE;
    let mut shown = false;
    loop {
        let found = look();
        if found.is_ok() || clock::since_boot() >= deadline {
            return found;
        }
        if load_driver() {
            continue;
        }
        if let Err(reason) = &found
            && !std::mem::replace(&mut shown, true)
        {
            console.info(&format!("waiting {} s for {what}: {reason}", PATIENCE.as_secs()));
        }
        match &events {
            Some(events) => {
                let _ = poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&LOOK_AGAIN));
                while let Ok(Some(_)) = uevent::receive(events) {}
            }
            None => {
                let _ = poll(&mut [], Some(&LOOK_AGAIN));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_loaded_until_it_is_there() {
        let loaded = std::cell::Cell::new(0);
        let look = || if loaded.get() == 2 { Ok("vda") } else { Err("no disk") };
        let found = until_found(&Console::standard_error(), "the disk", look, || {
            loaded.set(loaded.get() + 1);
            true
        });
        assert_eq!((found, loaded.get()), (Ok("vda"), 2));
    }
}
