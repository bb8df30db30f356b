//! The switch between sockets that stand in for machines.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// A frame that does not come is waited for this long, one that comes much longer.
const NOTHING: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(10);

struct Bench {
    /// Before its folder: fields are dropped in this order, and the switch is told to end by a socket in there.
    segment: Segment,
    plan: Plan,
    nics: Vec<UnixDatagram>,
    folder: TempDir,
}

fn directory(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn nic(folder: &TempDir, name: &str) -> UnixDatagram {
    let path = directory(folder, name).join(NIC_SOCKET);
    let _ = std::fs::remove_file(&path);
    UnixDatagram::bind(&path).expect("bind")
}

fn bench(names: &[&str], links: Vec<Link>) -> Bench {
    let folder = tempfile::tempdir().expect("temporary directory");
    let ports = names.iter().map(|name| Port { name: (*name).to_owned(), directory: directory(&folder, name) }).collect();
    let plan = Plan { ports, links, front: None, seed: 1 };
    let segment = Segment::start(&folder.path().join("net"), &plan).expect("a segment");
    let nics = names.iter().map(|name| nic(&folder, name)).collect();
    Bench { segment, plan, nics, folder }
}

fn address(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, n]
}

fn frame(from: u8, to: [u8; 6], text: &str) -> Vec<u8> {
    [&to[..], &address(from), &[0x88, 0xb5], text.as_bytes()].concat()
}

impl Bench {
    fn send(&self, from: u8, to: [u8; 6], text: &str) {
        let from_port = &self.plan.ports[usize::from(from)];
        self.nics[usize::from(from)].send_to(&frame(from, to, text), from_port.directory.join(SWITCH_SOCKET)).expect("send");
    }

    fn heard(&self, n: u8, patience: Duration) -> Option<String> {
        let nic = &self.nics[usize::from(n)];
        nic.set_read_timeout(Some(patience)).expect("timeout");
        let mut buffer = [0; 2048];
        nic.recv(&mut buffer).ok().map(|length| String::from_utf8_lossy(&buffer[14..length]).into_owned())
    }

    /// Everybody says where it is.
    fn introduce(&self) {
        for from in 0..self.nics.len() as u8 {
            self.send(from, [0xff; 6], "here");
            for to in (0..self.nics.len() as u8).filter(|to| *to != from) {
                assert_eq!(self.heard(to, SOON).as_deref(), Some("here"));
            }
        }
    }

    fn links(&mut self, links: Vec<Link>) {
        self.plan.links = links;
        self.segment.set(&self.plan).expect("set");
    }
}

#[test]
fn a_frame_reaches_its_machine_and_no_other() {
    let bench = bench(&["a", "b", "c"], Vec::new());
    bench.introduce();
    bench.send(0, address(1), "for b");
    assert_eq!(bench.heard(1, SOON).as_deref(), Some("for b"));
    assert_eq!(bench.heard(2, NOTHING), None);
    assert_eq!(bench.heard(0, NOTHING), None);
    let status = bench.segment.status().expect("status");
    let b = status.ports.iter().find(|port| port.name == "b").expect("b");
    assert_eq!((b.received, b.sent, b.lost), (1, 3, 0));
}

#[test]
fn a_cut_link_carries_nothing_until_it_is_mended() {
    let mut bench = bench(&["a", "b"], Vec::new());
    bench.introduce();
    bench.links(vec![Link::new("a", "b").cut()]);
    bench.send(0, address(1), "lost");
    bench.send(1, address(0), "the other way");
    assert_eq!(bench.heard(0, SOON).as_deref(), Some("the other way"));
    assert_eq!(bench.heard(1, NOTHING), None);
    bench.links(Vec::new());
    bench.send(0, address(1), "again");
    assert_eq!(bench.heard(1, SOON).as_deref(), Some("again"));
}

#[test]
fn a_slow_link_delays_and_keeps_the_order() {
    let delay = Duration::from_millis(150);
    let bench = bench(&["a", "b"], vec![Link::new("a", ANY).delay(delay)]);
    let began = Instant::now();
    for n in 0..20 {
        bench.send(0, address(1), &format!("{n}"));
    }
    for n in 0..20 {
        assert_eq!(bench.heard(1, SOON), Some(format!("{n}")));
    }
    assert!(began.elapsed() >= delay, "after {:?}", began.elapsed());
}

#[test]
fn machines_come_and_go() {
    let mut bench = bench(&["a", "b"], Vec::new());
    bench.introduce();
    // b is started anew: another socket at its place.
    bench.nics[1] = nic(&bench.folder, "b");
    bench.send(0, address(1), "once more");
    assert_eq!(bench.heard(1, SOON).as_deref(), Some("once more"));
    // c is new, b leaves.
    bench.plan.ports[1] = Port { name: "c".to_owned(), directory: directory(&bench.folder, "c") };
    bench.segment.set(&bench.plan).expect("set");
    let c = nic(&bench.folder, "c");
    bench.send(0, [0xff; 6], "who is there");
    c.set_read_timeout(Some(SOON)).expect("timeout");
    assert!(c.recv(&mut [0; 2048]).is_ok());
    assert_eq!(bench.heard(1, NOTHING), None);
    assert!(!directory(&bench.folder, "b").join(SWITCH_SOCKET).exists());
}

#[test]
fn a_machine_that_takes_nothing_holds_nobody_up() {
    let bench = bench(&["a", "deaf", "c"], Vec::new());
    bench.introduce();
    for n in 0..5000 {
        bench.send(0, address(1), &format!("{n}"));
    }
    bench.send(0, address(2), "for c");
    assert_eq!(bench.heard(2, SOON).as_deref(), Some("for c"));
    let status = bench.segment.status().expect("status");
    assert!(status.ports[1].lost > 0, "{status:?}");
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut bench = bench(&["a", "b"], Vec::new());
    for (link, says) in [
        (Link::new("a", "z").cut(), "no machine \"z\" on the segment; expected \"*\" or one of a, b"),
        (Link::new("a", "b").loss(1.5), "loss 1.5 from a to b; expected 0 to 1"),
    ] {
        let plan = Plan { links: vec![link], ..bench.plan.clone() };
        assert_eq!(bench.segment.set(&plan).expect_err("refused").to_string(), says);
    }
    bench.plan.links = vec![Link::new("a", "b").delay(Duration::from_millis(1))];
    bench.segment.set(&bench.plan).expect("set");
    let directory = bench.segment.directory.clone();
    drop(bench.segment);
    assert!(status(&directory).expect_err("it has ended").to_string().starts_with("ask the switch at "));
}
