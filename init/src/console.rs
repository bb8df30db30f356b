//! What init tells people: short lines on every console, and the same in the kernel's log, so that `dmesg` holds them.
//! A console that takes nothing (flow control, a dead serial line) loses lines; it never holds init up.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use machine::Root;
use nix::libc::{O_CLOEXEC, O_NOCTTY, O_NONBLOCK};

use crate::{clock, sys};

/// How loud a line is; the numbers are syslog's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

/// Where lines go.
#[derive(Debug)]
pub struct Console {
    kernel_log: Option<File>,
    screens: Vec<File>,
    /// Lines of this level and louder are printed by the kernel itself when they are in its log.
    kernel_prints: u8,
}

impl Console {
    /// Opens what is there; a machine without a console is fine.
    pub fn open(root: &Root) -> Console {
        let open = |path: &str| OpenOptions::new().write(true).custom_flags(O_NOCTTY | O_NONBLOCK | O_CLOEXEC).open(root.path(path)).ok();
        // By default user space may write ten lines in five seconds to the kernel's log (Documentation/admin-guide/sysctl/kernel.rst).
        let _ = std::fs::write(root.path("/proc/sys/kernel/printk_devkmsg"), "on\n");
        let kernel_log = open("/dev/kmsg");
        // What comes to the front later, the agent's dashboard, is not written over. A machine without virtual terminals has none to keep apart.
        if let Some(terminal) = open("/dev/tty1") {
            let _ = sys::redirect_kernel_messages(terminal.as_fd(), 1);
        }
        let active = std::fs::read_to_string(root.path("/sys/class/tty/console/active")).unwrap_or_default();
        let mut screens: Vec<File> = active.split_whitespace().filter_map(|name| open(&format!("/dev/{name}"))).collect();
        if screens.is_empty() {
            screens.extend(open("/dev/console"));
        }
        let levels = std::fs::read_to_string(root.path("/proc/sys/kernel/printk")).unwrap_or_default();
        let kernel_prints = levels.split_whitespace().next().and_then(|n| n.parse().ok()).filter(|_| kernel_log.is_some()).unwrap_or(0);
        Console { kernel_log, screens, kernel_prints }
    }

    /// A console that writes lines to standard error only: for init under a test.
    pub fn standard_error() -> Console {
        let screens = OpenOptions::new().write(true).open("/proc/self/fd/2").into_iter().collect();
        Console { kernel_log: None, screens, kernel_prints: 0 }
    }

    pub fn info(&self, text: &str) {
        self.line(Level::Info, text);
    }

    pub fn warning(&self, text: &str) {
        self.line(Level::Warning, text);
    }

    pub fn error(&self, text: &str) {
        self.line(Level::Error, text);
    }

    fn line(&self, level: Level, text: &str) {
        let text = text.trim_end().replace('\n', "; ");
        if let Some(mut log) = self.kernel_log.as_ref() {
            let _ = log.write_all(format!("<{}>corten: {text}\n", level as u8).as_bytes());
        }
        if (level as u8) < self.kernel_prints {
            return;
        }
        let now = clock::since_boot();
        // Serial consoles start the next line where the last one ended.
        let line = format!("[{:5}.{:03}] corten: {text}\r\n", now.as_secs(), now.subsec_millis());
        for mut screen in &self.screens {
            let _ = screen.write_all(line.as_bytes());
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
