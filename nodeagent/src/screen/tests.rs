use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use metrics::{Names, Snapshot};
use nix::time::{ClockId, clock_gettime};
use rustix::termios::{Winsize, tcsetwinsize};

use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::init_client::InitClient;
use crate::node::Applied;
use crate::resources::network::Hostname;

fn node(root: &Root) -> Node {
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    node.store.put(Hostname::NAME, &Hostname { hostname: "cp-1".to_owned(), source: "config".to_owned() });
    node
}

fn want(node: &Node, dashboard: bool) {
    let machine = changed(&machine("worker"), |config| config.machine.console.dashboard = dashboard);
    node.set_config(Applied { generation: 1, config: machine.config });
}

#[test]
fn a_screen_is_what_virtual_terminals_are_bound_to() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    assert!(!has_screen(&root));
    let console = |number: u8, name: &str, bound: &str| {
        let folder = root.path(&format!("/sys/class/vtconsole/vtcon{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), name).unwrap();
        fs::write(folder.join("bind"), bound).unwrap();
    };
    // As the kernel writes them (drivers/tty/vt/vt.c).
    console(0, "(S) dummy device\n", "1\n");
    console(1, "(M) frame buffer device\n", "0\n");
    assert!(!has_screen(&root));
    console(0, "(S) dummy device\n", "0\n");
    console(1, "(M) frame buffer device\n", "1\n");
    assert!(has_screen(&root));
}

/// What a terminal shows, and all that was written to it.
#[derive(Clone)]
struct Shown(Arc<Mutex<(vt100::Parser, Vec<u8>)>>);

impl Shown {
    fn of(master: OwnedFd, rows: u16, columns: u16) -> Shown {
        let shown = Shown(Arc::new(Mutex::new((vt100::Parser::new(rows, columns, 0), Vec::new()))));
        let filled = shown.clone();
        std::thread::spawn(move || {
            let (mut master, mut part) = (File::from(master), [0; 4096]);
            // It ends with an error once nobody has the other end any longer.
            while let Ok(length) = master.read(&mut part) {
                let mut shown = filled.0.lock().unwrap();
                shown.0.process(&part[..length]);
                shown.1.extend_from_slice(&part[..length]);
            }
        });
        shown
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.0.lock().unwrap().0.screen_mut().set_size(rows, columns);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().0.screen().contents()
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().1).into_owned()
    }

    /// Waits until it shows all of these.
    async fn has(&self, words: &[&str]) {
        let all = async {
            while !words.iter().all(|word| self.text().contains(word)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(Duration::from_secs(60), all).await.is_ok(), "{words:?} in:\n{}", self.text());
    }
}

fn size(terminal: &OwnedFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[tokio::test]
async fn a_terminal_shows_the_machine_and_what_changes() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    let pty = nix::pty::openpty(None, None).unwrap();
    size(&pty.slave, 30, 100);
    let device = nix::unistd::ttyname(&pty.slave).unwrap();
    let shown = Shown::of(pty.master.try_clone().unwrap(), 30, 100);
    let node = node(&root);
    want(&node, true);
    node.console.print("maintenance mode: waits for an address");
    let (showing, usage) = (node.clone(), Usage::of(Snapshot::default(), Names::default()));
    let running = tokio::spawn(async move { show(&showing, &usage, &device, &device).await });
    shown.has(&["cp-1", "maintenance mode: waits for an address", "SERVICE", "events", "Alt+F1"]).await;
    node.events.emit("service/kubelet", "Failed", "exit\x1b[2Jcode 7");
    shown.has(&["service/kubelet", "Failed", "exit [2Jcode 7"]).await;
    // A smaller screen, which loses its last lines when it becomes so.
    shown.resize(25, 80);
    size(&pty.slave, 25, 80);
    node.events.emit("service/etcd", "Ready", "ready");
    shown.has(&["service/etcd", "Alt+F1"]).await;
    assert!(shown.written().contains("\x1b[12;2]") && !shown.written().contains("\x1b[12;1]"));
    want(&node, false);
    timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
    let lines_are_in_front = async {
        while !shown.written().ends_with("\x1b[12;1]") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_secs(60), lines_are_in_front).await.is_ok(), "{:?}", shown.written());
}

#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_picture_costs() {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    let pty = nix::pty::openpty(None, None).unwrap();
    size(&pty.slave, 48, 160);
    let shown = Shown::of(pty.master.try_clone().unwrap(), 48, 160);
    let node = node(&root);
    let usage = Usage::of(Snapshot::default(), Names::default());
    let device = nix::unistd::ttyname(&pty.slave).unwrap();
    let mut screen = Screen::begin(&device, &device).unwrap();
    let mut seen = Seen::new();
    let pictures = 1000;
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let before = used();
    for number in 0..pictures {
        node.events.emit("service/kubelet", "Ready", format!("picture {number}"));
        seen.look(&node, &usage, Instant::now());
        screen.draw(&seen.facts).await.unwrap();
    }
    let each = (used() - before) / pictures;
    println!("{each:?} of a processor a picture, {} bytes written each", shown.written().len() / pictures as usize);
}
