//! Runs the program and looks at what came out.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs machinectl without a terminal, and with a home of its own so that it never sees the user's files.
pub fn machinectl(home: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_machinectl"));
    command.env_clear().env("HOME", home).current_dir(home).args(arguments).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().expect("machinectl");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: status.code().expect("an exit code"), out: text(stdout), err: text(stderr) }
}

impl Ran {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn printed(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// What it complained of, if it ended with that code.
    #[track_caller]
    pub fn complained(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }

    /// What it printed as JSON.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.printed()).expect("JSON")
    }
}
