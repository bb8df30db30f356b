//! A seat that one control plane holds at a time, for tasks that one of them sees to: elected in etcd, as the holder of the virtual IP is.

use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;

use super::election::{Claim, Election};
use super::machine::Machine;
use super::pki::Keyring;
use crate::node::Node;

/// How often the holder tells etcd that it is still there, and the others look whether there is one. A lease lasts three times as long.
pub const BEAT: Duration = Duration::from_secs(3);
/// What is begun by a holder has to be over before its lease is.
const LEAST_LEFT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct Leader {
    seat: &'static str,
    election: Election,
    keyring: Keyring,
    claim: Option<Claim>,
}

/// Who sits there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    Ours,
    Others(String),
}

impl Leader {
    pub fn new(seat: &'static str) -> Leader {
        Leader { seat, election: Election::default(), keyring: Keyring::default(), claim: None }
    }

    /// Keeps the seat, or takes it where nobody has it.
    pub async fn seek(&mut self, node: &Node, machine: &Machine) -> anyhow::Result<Seat> {
        let certificate = self.keyring.get(node, CertificateId::EtcdHealthClient).context("the agent has no certificate for etcd")?;
        let access = || crate::etcd::access(&machine.config, &certificate);
        let own = &machine.facts.node_name;
        if let Some(claim) = self.claim.clone() {
            match self.election.renew(access(), &claim).await {
                Ok(renewed) => self.claim = renewed,
                // It stays its own until its time is over.
                Err(error) if claim.left() > LEAST_LEFT => tracing::info!("{}: {error:#}", self.seat),
                Err(error) => {
                    self.claim = None;
                    return Err(error);
                }
            }
        }
        if self.claim.is_none() {
            match self.election.holder(access(), self.seat).await? {
                None => self.claim = self.election.claim(access(), self.seat, own).await?,
                // This machine's, of an agent before this one.
                Some((by, lease)) if by == *own => {
                    self.claim = self.election.renew(access(), &Claim::of_before(self.seat.to_owned(), by, lease)).await?;
                }
                Some((by, _)) => return Ok(Seat::Others(by)),
            }
        }
        Ok(if self.claim.is_some() { Seat::Ours } else { Seat::Others(String::new()) })
    }

    /// Whether there is time to do something as the holder.
    pub fn may_act(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.left() > LEAST_LEFT)
    }

    /// Leaves the seat to others. Who cannot be told finds out when the lease ends.
    pub async fn leave(&mut self, node: &Node, machine: &Machine) {
        let Some(claim) = self.claim.take() else { return };
        let Some(certificate) = self.keyring.get(node, CertificateId::EtcdHealthClient) else { return };
        if let Err(error) = self.election.resign(crate::etcd::access(&machine.config, &certificate), &claim).await {
            tracing::info!("{}: {error:#}", self.seat);
        }
    }
}
