//! Who has a vote, how they are, and whom to ask.

use controlplane::etcd::quorum::Voter;
use controlplane::etcd::{Member, MemberId};

use super::{Found, Seen};
use crate::etcd::members::Cluster;

impl Seen {
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.found {
            Found::Cluster(cluster) => Some(cluster),
            Found::NobodyToAsk | Found::Silence(_) | Found::Several(_) => None,
        }
    }

    /// Why nobody tells who the members are.
    pub fn silence(&self) -> Option<String> {
        match &self.found {
            Found::Cluster(_) => None,
            Found::NobodyToAsk => Some("this machine's etcd does not answer".to_owned()),
            Found::Silence(troubles) => Some(troubles.join("; ")),
            Found::Several(_) => Some("the other servers are of different clusters".to_owned()),
        }
    }

    /// The identity of this machine's member, as far as it is known.
    pub fn own_id(&self) -> Option<MemberId> {
        let record = self.record.as_ref().and_then(|record| record.member_id);
        record.or(self.own.as_ref().map(|own| MemberId(own.member)))
    }

    pub fn is_healthy(&self, id: MemberId) -> bool {
        matches!(self.health.get(&id), Some(Ok(health)) if health.leader != 0)
    }

    pub fn voters(&self, cluster: &Cluster) -> Vec<Voter> {
        let voting = cluster.members.iter().filter(|member| !member.learner);
        voting.map(|member| Voter { id: member.id, healthy: self.is_healthy(member.id) }).collect()
    }

    /// The servers of those that have a vote, the healthy ones first and this member's last.
    pub fn servers(&self, cluster: &Cluster, last: MemberId) -> Vec<String> {
        let mut voting: Vec<&Member> = cluster.members.iter().filter(|member| !member.learner).collect();
        voting.sort_by_key(|member| (member.id == last, !self.is_healthy(member.id)));
        voting.into_iter().filter_map(|member| member.client_urls.first().cloned()).collect()
    }
}
