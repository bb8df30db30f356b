//! The dashboard on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};

use crate::fake::Fake;

/// On a host that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn it_needs_a_terminal() {
    let error = Fake::member().run(&["dashboard"]).complained(2);
    assert!(error.starts_with("error: dashboard: it needs a terminal; elsewhere, use `machinectl top --watch`"), "{error}");
}

#[test]
fn it_shows_the_machine_until_q_is_typed_and_leaves_the_terminal_as_it_was() {
    let fake = Fake::member();
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).expect("a terminal");
    // The program would keep its own terminal open.
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
    let ours = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_machinectl"));
    command.env_clear().env("HOME", fake.home()).env("TERM", "xterm").arg("dashboard").stdin(ours()).stdout(ours()).stderr(ours());
    let mut running = Running(command.spawn().expect("machinectl"));
    drop((command, terminal.slave));
    let mut keyboard = File::from(terminal.master);
    let mut drawn = keyboard.try_clone().expect("a descriptor");
    let (sender, written) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = drawn.read(&mut buffer) {
            let _ = sender.send(buffer[..length].to_vec());
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut screen = vt100::Parser::new(size.ws_row, size.ws_col, 0);
    let mut until = |awaited: &str, is_there: fn(&vt100::Screen) -> bool| {
        while !is_there(screen.screen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = written.recv_timeout(left).unwrap_or_else(|_| panic!("no {awaited} in:\n{}", screen.screen().contents()));
            screen.process(&more);
        }
    };
    until("picture", |screen| screen.alternate_screen());
    until("service", |screen| screen.contents().contains("kubelet"));
    until("check", |screen| screen.contents().contains("1 of 2 checks pass"));
    until("event", |screen| screen.contents().contains("service/kubelet"));
    keyboard.write_all(b"2").expect("typed");
    until("log", |screen| screen.contents().contains("log of"));
    keyboard.write_all(b"q").expect("typed");
    until("end", |screen| !screen.alternate_screen() && !screen.hide_cursor());
    assert!(running.0.wait().expect("it ends").success());
}
