//! A process that cannot be mistaken for another one that got its number later.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process by number and start time (field 22 of /proc/PID/stat, in clock ticks since the host's boot), of one boot of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i32,
    pub start_ticks: u64,
    pub host_boot_id: String,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<ProcessId> {
        Some(ProcessId { pid, start_ticks: start_ticks(pid)?, host_boot_id: host_boot_id() })
    }

    pub fn is_alive(&self) -> bool {
        self.host_boot_id == host_boot_id() && start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Sends SIGKILL. A process that has ended already is no error, and no other process is ever hit.
    pub fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // The descriptor is opened first: what it stands for is then checked, and cannot change any more.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.is_alive() {
            let _ = pidfd_send_signal(&descriptor, Signal::KILL);
        }
    }
}

/// `None` for a process that is gone or only waits to be reaped.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold spaces and parentheses itself; fields are counted after the last one. State is field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    match fields.first()? {
        &"Z" | &"X" => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

/// Tells one boot of the host from another.
pub fn host_boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn kills_the_process_and_no_later_one() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let id = ProcessId::of(child.id() as i32).expect("it runs");
        let mistaken = ProcessId { start_ticks: id.start_ticks + 1, ..id.clone() };
        mistaken.kill();
        assert!(!mistaken.is_alive());
        assert!(id.is_alive() && child.try_wait().expect("wait").is_none());
        id.kill();
        assert!(!child.wait().expect("wait").success());
        assert!(!id.is_alive());
    }
}
