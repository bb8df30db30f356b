//! How many packets a second a capture takes, and what a filter costs those who are not wanted. Run by name, with `--ignored --nocapture`.

use std::net::UdpSocket;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

const PACKETS: usize = 500_000;

/// Sends, and gives packets a second.
fn send(namespace: &Namespace) -> f64 {
    namespace.enter(|| {
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        let sink = UdpSocket::bind("192.0.2.1:0").unwrap();
        let to = sink.local_addr().unwrap();
        let began = Instant::now();
        for _ in 0..PACKETS {
            socket.send_to(&[7; 100], to).unwrap();
        }
        PACKETS as f64 / began.elapsed().as_secs_f64()
    })
}

#[test]
#[ignore = "a measurement"]
fn packets_a_second() {
    let site = Site::new();
    println!("sent a second without a capture: {:.0}", send(&site.namespace));
    for (name, filter) in
        [("nothing that passes", Filter { port: Some(1), ..ALL }), ("all", Filter { protocol: Some(Protocol::Udp), ..ALL })]
    {
        let (over, started, namespace) = (AtomicBool::new(false), Barrier::new(2), &site.namespace);
        let (over, started) = (&over, &started);
        let (rate, taken, dropped) = std::thread::scope(|scope| {
            let capture = scope.spawn(move || {
                namespace.enter(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let _inside = runtime.enter();
                    let mut capture = Capture::start(&filter, Limits { bytes: u64::MAX, ..limits() }).unwrap();
                    started.wait();
                    let mut chunk = Vec::new();
                    loop {
                        let last = over.load(Ordering::Acquire);
                        chunk.clear();
                        capture.fill(&mut chunk).unwrap();
                        if chunk.is_empty() && last {
                            return (capture.packets, capture.dropped);
                        }
                    }
                })
            });
            started.wait();
            let rate = send(namespace);
            over.store(true, Ordering::Release);
            let (taken, dropped) = capture.join().unwrap();
            (rate, taken, dropped)
        });
        println!("sent a second with a capture of {name}: {rate:.0}; {taken} taken of {}, {dropped} dropped", 2 * PACKETS);
    }
}
