//! How a machine without data of its own becomes a member of a cluster that is there.

use std::collections::BTreeMap;

use super::{Member, MemberId};

/// The machine that joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joiner<'a> {
    pub name: &'a str,
    /// Where the others will reach it.
    pub peer_url: &'a str,
}

/// What is next on the way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Have the cluster know it, as a learner.
    Add,
    /// Have the cluster forget a member that was this machine, and whose data is gone.
    Remove(MemberId),
    /// Start etcd with exactly these members, itself among them: etcd compares them with what the cluster has.
    Start {
        id: MemberId,
        members: BTreeMap<String, Vec<String>>,
    },
    Blocked(Obstacle),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It may be alive: nobody but a person can know.
    #[error(
        "somebody to decide: etcd has another member named {name}, {id} at {peer_urls}: remove it if that machine is gone for good, or give \
         this one another hostname"
    )]
    NameTaken { name: String, id: MemberId, peer_urls: String },
    /// etcd takes one learner at a time.
    #[error("another machine to join etcd: learner {label} at {peer_urls}")]
    OtherLearner { label: String, peer_urls: String },
}

/// For a machine with no data; what it did before a power cut is found again by its peer URL.
pub fn enter(joiner: Joiner<'_>, members: &[Member]) -> Entry {
    let is_own = |member: &&Member| member.peer_urls.iter().any(|url| url == joiner.peer_url);
    let own = members.iter().find(is_own);
    if let Some(namesake) = members.iter().find(|member| member.name == joiner.name && !is_own(member)) {
        let peer_urls = namesake.peer_urls.join(",");
        return Entry::Blocked(Obstacle::NameTaken { name: namesake.name.clone(), id: namesake.id, peer_urls });
    }
    match own {
        Some(own) if own.has_started() => Entry::Remove(own.id),
        Some(own) => Entry::Start { id: own.id, members: pairs(joiner, own.id, members) },
        None => match members.iter().find(|member| member.learner) {
            Some(learner) => Entry::Blocked(Obstacle::OtherLearner { label: learner.label(), peer_urls: learner.peer_urls.join(",") }),
            None => Entry::Add,
        },
    }
}

/// Peer URLs by name. etcd goes by the URLs alone: any name will do for those that have none yet.
fn pairs(joiner: Joiner<'_>, own: MemberId, members: &[Member]) -> BTreeMap<String, Vec<String>> {
    let name = |member: &Member| if member.id == own { joiner.name.to_owned() } else { member.label() };
    members.iter().map(|member| (name(member), member.peer_urls.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str, learner: bool) -> Member {
        let client_urls = if name.is_empty() { Vec::new() } else { vec![format!("https://192.0.2.{id}:2379")] };
        Member { id: MemberId(id), name: name.to_owned(), peer_urls: vec![format!("https://192.0.2.{id}:2380")], client_urls, learner }
    }

    const SECOND: Joiner<'_> = Joiner { name: "cp-2", peer_url: "https://192.0.2.2:2380" };

    #[test]
    fn every_step_is_found_again() {
        let first = member(1, "cp-1", false);
        assert_eq!(enter(SECOND, std::slice::from_ref(&first)), Entry::Add);
        let Entry::Start { id, members } = enter(SECOND, &[first.clone(), member(2, "", true)]) else { panic!("it was added before") };
        assert_eq!(id, MemberId(2));
        assert_eq!(members.keys().collect::<Vec<_>>(), ["cp-1", "cp-2"]);
        for learner in [true, false] {
            assert_eq!(enter(SECOND, &[first.clone(), member(2, "cp-2", learner)]), Entry::Remove(MemberId(2)), "its data is gone");
        }
    }

    #[test]
    fn others_are_never_removed() {
        let (first, namesake) = (member(1, "cp-1", false), member(9, "cp-2", false));
        for members in [vec![first.clone(), namesake.clone()], vec![first.clone(), namesake, member(2, "", true)]] {
            let Entry::Blocked(obstacle) = enter(SECOND, &members) else { panic!("a namesake may be alive") };
            assert!(obstacle.to_string().contains("cp-2, 9 at https://192.0.2.9:2380"), "{obstacle}");
        }
        let Entry::Blocked(obstacle) = enter(SECOND, &[first, member(3, "", true)]) else { panic!("etcd takes one learner at a time") };
        assert_eq!(obstacle.to_string(), "another machine to join etcd: learner 3 at https://192.0.2.3:2380");
    }
}
