//! Networks less the parts that are excepted.

use ipnet::IpNet;

/// The networks that are in `block` and in none of `excepts`, apart from each other; none where there would be more than `most`.
pub fn without(block: IpNet, excepts: &[IpNet], most: usize) -> Option<Vec<IpNet>> {
    let mut kept = Vec::new();
    split(block.trunc(), excepts, &mut kept, most)?;
    Some(kept)
}

/// Halves a network until a half is either out of all excepts or inside of one.
fn split(network: IpNet, excepts: &[IpNet], kept: &mut Vec<IpNet>, most: usize) -> Option<()> {
    let near: Vec<IpNet> = excepts.iter().filter(|except| network.contains(*except) || except.contains(&network)).copied().collect();
    if near.iter().any(|except| except.contains(&network)) {
        return Some(());
    }
    if near.is_empty() {
        kept.push(network);
        return (kept.len() <= most).then_some(());
    }
    // One that is not inside of an except but has one in it is no single address, and has halves.
    let halves = network.subnets(network.prefix_len() + 1).ok()?;
    for half in halves {
        split(half, &near, kept, most)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn parts_are_left_out() {
        for (block, excepts, left) in [
            ("10.0.0.0/8", vec![], vec!["10.0.0.0/8"]),
            ("10.0.0.0/30", vec!["10.0.0.2/32"], vec!["10.0.0.0/31", "10.0.0.3/32"]),
            ("10.0.0.0/30", vec!["10.0.0.0/8"], vec![]),
            ("10.0.0.7/8", vec!["10.128.0.0/9", "10.0.0.0/9"], vec![]),
            ("fd00::/64", vec!["fd00::8000:0:0:0/65", "10.0.0.0/8"], vec!["fd00::/65"]),
        ] {
            assert_eq!(without(block.parse().unwrap(), &nets(&excepts), 100), Some(nets(&left)), "{block} {excepts:?}");
        }
        assert_eq!(without("::/0".parse().unwrap(), &nets(&["fd00::1/128"]), 127), None, "128 networks are too many");
        assert_eq!(without("::/0".parse().unwrap(), &nets(&["fd00::1/128"]), 128).unwrap().len(), 128);
    }

    proptest! {
        #[test]
        fn an_address_is_in_it_as_the_words_say(
            address: u8, block in (any::<u8>(), 24u8..=32), excepts in prop::collection::vec((any::<u8>(), 24u8..=32), 0..4),
        ) {
            let net = |(last, length): (u8, u8)| IpNet::new(std::net::IpAddr::from([192, 0, 2, last]), length).unwrap().trunc();
            let (block, excepts): (IpNet, Vec<IpNet>) = (net(block), excepts.into_iter().map(net).collect());
            let address = std::net::IpAddr::from([192, 0, 2, address]);
            let expected = block.contains(&address) && !excepts.iter().any(|except| except.contains(&address));
            let left = without(block, &excepts, 256).unwrap();
            prop_assert_eq!(left.iter().filter(|network| network.contains(&address)).count(), usize::from(expected));
        }
    }
}
