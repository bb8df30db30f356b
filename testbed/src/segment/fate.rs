//! What becomes of a frame on its way between two ports.

use std::time::Duration;

use etherparse::{SlicedPacket, TransportSlice};

use super::plan::{ANY, Link};
use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Arrives { after: Duration },
}

/// Losses are drawn in steps of a millionth.
const STEPS: u64 = 1_000_000;

pub fn decide(links: &[Link], from: &str, to: &str, frame: &[u8], dice: &mut Dice) -> Fate {
    let mut after = Duration::ZERO;
    // Parsed once, and only where a rule asks for it.
    let mut ports = None;
    for link in links.iter().filter(|link| names(&link.from, from) && names(&link.to, to)) {
        if let Some(port) = link.transport_port
            && !ports.get_or_insert_with(|| transport_ports(frame)).contains(&port)
        {
            continue;
        }
        #[expect(clippy::cast_precision_loss, reason = "both are below 2^20")]
        let lost = link.cut || (link.loss > 0.0 && (dice.roll(STEPS) as f64) < link.loss * STEPS as f64);
        if lost {
            return Fate::Lost;
        }
        after += Duration::from_millis(link.delay_ms);
    }
    Fate::Arrives { after }
}

fn names(rule: &str, port: &str) -> bool {
    rule == ANY || rule == port
}

/// Source and destination of a TCP segment or a UDP datagram; none of anything else.
fn transport_ports(frame: &[u8]) -> Vec<u16> {
    match SlicedPacket::from_ethernet(frame).ok().and_then(|packet| packet.transport) {
        Some(TransportSlice::Tcp(tcp)) => vec![tcp.source_port(), tcp.destination_port()],
        Some(TransportSlice::Udp(udp)) => vec![udp.source_port(), udp.destination_port()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn tcp(source: u16, destination: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = builder.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).tcp(source, destination, 1, 1000);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"x").expect("a frame");
        frame
    }

    #[test]
    fn rules_for_both_ends_and_a_port() {
        let slow = Link::new("a", ANY).delay(Duration::from_millis(20));
        let links = [slow.clone(), slow, Link::new(ANY, "c").cut(), Link::new("b", "a").transport_port(2380).cut()];
        let mut dice = Dice::new(1);
        let mut fate = |from, to, frame: &[u8]| decide(&links, from, to, frame, &mut dice);
        assert_eq!(fate("a", "b", b""), Fate::Arrives { after: Duration::from_millis(40) });
        assert_eq!(fate("b", "c", b""), Fate::Lost);
        assert_eq!(fate("b", "a", &tcp(40000, 2380)), Fate::Lost);
        assert_eq!(fate("b", "a", &tcp(2380, 40000)), Fate::Lost);
        assert_eq!(fate("b", "a", &tcp(40000, 6443)), Fate::Arrives { after: Duration::ZERO });
        assert_eq!(fate("b", "a", b"no packet at all"), Fate::Arrives { after: Duration::ZERO });
    }

    #[test]
    fn a_share_is_lost_and_the_seed_says_which() {
        let links = [Link::new(ANY, ANY).loss(0.25)];
        let lost = |seed| {
            let mut dice = Dice::new(seed);
            (0..10_000).map(|_| decide(&links, "a", "b", b"", &mut dice) == Fate::Lost).collect::<Vec<_>>()
        };
        let count = lost(7).iter().filter(|lost| **lost).count();
        assert!((2300..2700).contains(&count), "{count} of 10,000");
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
    }
}
