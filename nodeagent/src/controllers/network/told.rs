//! What happened to links, in words: carriers and MTUs, which member of a bond sends now, and which are members no more.

use std::collections::BTreeMap;

use super::kernel::Kernel;
use crate::resources::link::{Link, Shape};

type Links = BTreeMap<String, Link>;

/// An event: the link that it is about, a word for it, and the message.
pub type Told = (String, &'static str, String);

/// All that is told of what the kernel had and has.
pub fn between(before: &Kernel, after: &Kernel) -> Vec<Told> {
    let mut told = of_bonds(&before.links, &after.links);
    // None of pods: they come and go by the hundred.
    let matters =
        |name: &String, link: &Link| link.leads_out() || after.addresses.iter().any(|address| address.owned && address.link == *name);
    for (name, link) in after.links.iter().filter(|(name, link)| matters(name, link)) {
        if let Some(was) = before.links.get(name).filter(|was| was.index == link.index) {
            told.extend(of_link(was, link).into_iter().map(|(reason, message)| (name.clone(), reason, message)));
        }
    }
    told
}

fn of_link(was: &Link, link: &Link) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    let lost = link.carrier_losses.wrapping_sub(was.carrier_losses);
    match (was.carrier, link.carrier) {
        (true, false) if !link.up => told.push(("CarrierLost", "the link was set down".to_owned())),
        (true, false) => told.push(("CarrierLost", "the link has no carrier; its addresses and leases stay".to_owned())),
        (false, true) if link.carrier_losses > 0 => told.push(("CarrierBack", "the link has a carrier again".to_owned())),
        // It was away between two looks.
        (true, true) if lost > 0 => told.push(("CarrierBack", "the link lost its carrier for a moment".to_owned())),
        _ => {}
    }
    if was.mtu != link.mtu {
        told.push(("MtuChanged", format!("{} -> {}", was.mtu, link.mtu)));
    }
    if was.ipv6_mtu != link.ipv6_mtu {
        let mtu = |link: &Link| link.ipv6_mtu.unwrap_or(link.mtu);
        told.push(("MtuChanged", format!("of IPv6: {} -> {}", mtu(was), mtu(link))));
    }
    told
}

/// Only of bonds that are there before and after: what the config makes and takes away is told of elsewhere.
fn of_bonds(before: &Links, after: &Links) -> Vec<Told> {
    let mut told = Vec::new();
    for (name, link) in after {
        let Some(was) = before.get(name).filter(|was| was.index == link.index) else { continue };
        let (Some(Shape::Bond(old)), Some(Shape::Bond(new))) = (&was.shape, &link.shape) else { continue };
        match (&old.active_member, &new.active_member) {
            (old, new) if old == new => {}
            (Some(old), None) => told.push((name.clone(), "NoMember", format!("{old} {}, and no other member can send", why(old, after)))),
            (Some(old), Some(new)) => told.push((name.clone(), "MemberChanged", format!("sends by {new} now; {old} {}", why(old, after)))),
            (None, Some(new)) => told.push((name.clone(), "MemberChanged", format!("sends by {new} now"))),
            (None, None) => {}
        }
        let is_member = |links: &Links, member: &String| links.get(member).is_some_and(|link| link.is_in(name));
        let lost = before.keys().filter(|member| is_member(before, member) && !is_member(after, member));
        told.extend(lost.map(|member| (name.clone(), "MemberLost", format!("{member} is no member any more"))));
    }
    told
}

fn why(member: &str, links: &Links) -> &'static str {
    match links.get(member) {
        None => "is gone",
        Some(link) if !link.carrier => "has no carrier",
        Some(_) => "is not the one to send any more",
    }
}

#[cfg(test)]
mod tests {
    use machine::config::{BondMode, LacpRate, TransmitHashPolicy};

    use super::*;
    use crate::resources::link::BondShape;

    /// A bond of these members, of whom this one sends.
    fn links(members: &[(&str, bool)], active: Option<&str>) -> Links {
        let shape = Shape::Bond(BondShape {
            mode: BondMode::ActiveBackup,
            mii_monitor: 100,
            up_delay: 0,
            down_delay: 0,
            lacp_rate: LacpRate::Slow,
            transmit_hash_policy: TransmitHashPolicy::Layer2,
            min_links: 0,
            primary: None,
            active_member: active.map(str::to_owned),
        });
        let member = |(name, carrier): &(&str, bool)| {
            ((*name).to_owned(), Link { carrier: *carrier, master: Some("bond0".to_owned()), ..Link::default() })
        };
        let mut links: Links = members.iter().map(member).collect();
        links.insert("bond0".to_owned(), Link { index: 9, shape: Some(shape), ..Link::default() });
        links
    }

    #[test]
    fn a_change_of_members_is_told_with_its_reason() {
        let both = links(&[("eth0", true), ("eth1", true)], Some("eth0"));
        let table: [(Links, &[&str]); 5] = [
            (both.clone(), &[]),
            (links(&[("eth0", false), ("eth1", true)], Some("eth1")), &["MemberChanged: sends by eth1 now; eth0 has no carrier"]),
            (links(&[("eth0", false), ("eth1", false)], None), &["NoMember: eth0 has no carrier, and no other member can send"]),
            (
                links(&[("eth1", true)], Some("eth1")),
                &["MemberChanged: sends by eth1 now; eth0 is gone", "MemberLost: eth0 is no member any more"],
            ),
            // The bond itself went with its members.
            (Links::new(), &[]),
        ];
        for (after, expected) in table {
            let told: Vec<String> =
                of_bonds(&both, &after).into_iter().map(|(_, reason, message)| format!("{reason}: {message}")).collect();
            assert_eq!(told, expected);
        }
        assert_eq!(of_bonds(&links(&[], None), &both).len(), 1);
    }

    #[test]
    fn carriers_and_mtus_are_told_of_links_that_matter() {
        let card =
            |carrier, carrier_losses, mtu| Link { kind: "ethernet".to_owned(), up: true, carrier, carrier_losses, mtu, ..Link::default() };
        let table: [(Link, Link, &[&str]); 8] = [
            (card(true, 0, 1500), card(true, 0, 1500), &[]),
            (card(true, 0, 1500), card(false, 1, 1500), &["CarrierLost"]),
            (card(false, 1, 1500), card(true, 1, 1500), &["CarrierBack"]),
            (card(true, 1, 1500), card(true, 2, 1400), &["CarrierBack", "MtuChanged"]),
            // At boot.
            (card(false, 0, 1500), card(true, 0, 1500), &[]),
            (card(true, 0, 1500), Link { ipv6_mtu: Some(1280), ..card(true, 0, 1500) }, &["MtuChanged"]),
            (card(true, 0, 1500), Link { up: false, ..card(false, 1, 1500) }, &["CarrierLost"]),
            (Link { kind: "veth".to_owned(), ..card(true, 0, 1500) }, Link { kind: "veth".to_owned(), ..card(false, 1, 1500) }, &[]),
        ];
        for (was, is, expected) in table {
            let kernel = |link: &Link| Kernel { links: BTreeMap::from([("eth0".to_owned(), link.clone())]), ..Kernel::default() };
            let told: Vec<&str> = between(&kernel(&was), &kernel(&is)).into_iter().map(|(_, reason, _)| reason).collect();
            assert_eq!(told, expected, "{was:?} -> {is:?}");
        }
    }
}
