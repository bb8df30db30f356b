//! What happened to bonds, in words: which member sends now, and which are members no more.

use std::collections::BTreeMap;

use crate::resources::link::{Link, Shape};

type Links = BTreeMap<String, Link>;

/// An event: the link that it is about, a word for it, and the message.
pub type Told = (String, &'static str, String);

/// Only of bonds that are there before and after: what the config makes and takes away is told of elsewhere.
pub fn between(before: &Links, after: &Links) -> Vec<Told> {
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
            let told: Vec<String> = between(&both, &after).into_iter().map(|(_, reason, message)| format!("{reason}: {message}")).collect();
            assert_eq!(told, expected);
        }
        assert_eq!(between(&links(&[], None), &both).len(), 1);
    }
}
