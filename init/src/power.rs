//! The end of a boot: restart, power off, and the countdown before a restart that nobody asked for.

use std::time::Duration;

use machine::protocol::PowerAction;
use machine::record::CANNOT_BOOT;
use rustix::event::poll;
use rustix::system::{RebootCommand, reboot};
use rustix::time::Timespec;

use crate::console::Console;

/// Ends the boot. What was to be written must be on the disk by now.
pub fn end(console: &Console, action: PowerAction) -> ! {
    let command = match action {
        PowerAction::Reboot => RebootCommand::Restart,
        PowerAction::PowerOff => RebootCommand::PowerOff,
    };
    loop {
        let refused = reboot(command);
        console.error(&format!("the kernel does not end the boot ({refused:?}); trying again"));
        pause(Duration::from_secs(5));
    }
}

/// Shows why the machine cannot go on, counts down, and restarts it.
pub fn restart_after(console: &Console, countdown: Duration, reason: &str) -> ! {
    console.error(&format!("{CANNOT_BOOT}{reason}"));
    keep_log();
    for left in (1..=countdown.as_secs()).rev() {
        console.error(&format!("restart in {left} s"));
        pause(Duration::from_secs(1));
    }
    end(console, PowerAction::Reboot)
}

/// Has the kernel keep its log at the restart as it does at a crash, where it has a place for that: the next boot can say why this one ended.
fn keep_log() {
    let _ = std::fs::write("/sys/module/printk/parameters/always_kmsg_dump", "Y");
}

/// Waits. For countdowns and between tries of what gives no sign when it would work.
pub fn pause(length: Duration) {
    let length = Timespec { tv_sec: length.as_secs() as i64, tv_nsec: length.subsec_nanos().into() };
    let _ = poll(&mut [], Some(&length));
}
