//! Holds the cluster's virtual IP while this control plane is elected, so that clients outside find an API server at one address.
//!
//! The election is etcd's: the key belongs to whoever made it under a lease that he keeps alive. It cannot be one of Kubernetes' own Leases:
//! the API is what the address is for. A holder that hears nothing of etcd lets go before its lease can have ended, by its own clock; the
//! kernel does the same for an agent that hangs, since the address has a lifetime there. So no two machines hold it at a time.
//!
//! reads: machine config, hostname, node IPs, API servers, service etcd, certificate etcd-healthcheck-client, etcd, the kernel
//! writes: the address, virtualips; gratuitous ARP or unsolicited neighbour advertisements

mod plan;

#[cfg(test)]
mod real;

use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use machine::stage::Stage;

use super::election::{Claim, Election};
use super::machine::Machine;
use super::network::connect;
use super::pki::Keyring;
use super::shared_address::{Kernel, Place, announce, hold, remove};
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::cluster::ApiServer;
use crate::resources::services;
use crate::resources::virtual_ip::VirtualIp as Status;
use plan::{Action, Held, Seen, Told};

/// How often a holder tells etcd that it is still there, and the others look whether there is one.
const BEAT: Duration = Duration::from_secs(2);
/// After so many beats neighbours that missed the first announcement have heard of it.
const ANNOUNCEMENTS: u32 = 3;

#[derive(Debug)]
pub struct VirtualIp {
    netlink: rtnetlink::Handle,
    keyring: Keyring,
    election: Election,
    claim: Option<Claim>,
    announced: u32,
    /// Whether this machine takes part: then it looks at each beat.
    takes_part: bool,
}

impl VirtualIp {
    pub fn new() -> anyhow::Result<VirtualIp> {
        Ok(VirtualIp {
            netlink: connect()?,
            keyring: Keyring::default(),
            election: Election::default(),
            claim: None,
            announced: 0,
            takes_part: false,
        })
    }
}

impl Controller for VirtualIp {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "virtualip";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        let next = self.claim.as_ref().map(|claim| BEAT.saturating_sub(claim.renewed.elapsed()));
        if self.takes_part { next.unwrap_or(BEAT).max(Duration::from_millis(50)) } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let machine = Machine::observe(node);
        let wanted = machine.as_ref().ok().and_then(|machine| machine.config.cluster.virtual_ip);
        let told = node.store.all::<Status>();
        let fit = self.fit(node, &machine);
        self.takes_part = wanted.is_some() && (fit.is_ok() || self.claim.is_some());
        let place = match (&machine, wanted) {
            (Ok(machine), Some(address)) => Some(Kernel::read(&self.netlink).await?.place(address, &machine.facts.node_ips)),
            _ => None,
        };
        let held = self.claim.as_ref().map(|claim| Held { left: claim.left(), since_renewal: claim.renewed.elapsed() });
        let holder = match (&machine, &fit, wanted, &held) {
            (Ok(machine), Ok(()), Some(address), None) => self.ask(node, machine, address).await,
            _ => Told::NotAsked,
        };
        let name = machine.as_ref().map(|machine| machine.facts.node_name.clone()).unwrap_or_default();
        Ok(Seen { wanted, name, fit, place, held, holder, told })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Tell(address, status) => node.store.put(&address.to_string(), &status),
            Action::Forget(name) => node.store.remove::<Status>(&name),
            Action::Remove { address, place } => {
                remove(&self.netlink, address, &place).await?;
                node.events.emit("virtualip", "Released", format!("{address} is no longer on {}", place.link));
            }
            Action::Lose => {
                self.claim = None;
                node.events.emit("virtualip", "Lost", "etcd was not heard of for as long as the lease lasts");
            }
            Action::Resign => {
                let Some(claim) = self.claim.take() else { return Ok(()) };
                // Who cannot be told finds out when the lease ends.
                if let Err(error) = self.with_etcd(node, async |election, access| election.resign(access, &claim).await).await {
                    tracing::info!("virtual IP: {error:#}");
                }
            }
            Action::Claim { address, by } => {
                self.claim = self.with_etcd(node, async |election, access| election.claim(access, &seat(address), &by).await).await?;
                self.announced = 0;
            }
            Action::Adopt { address, by, lease } => {
                let adopted = Claim::of_before(seat(address), by, lease);
                self.claim = self.with_etcd(node, async |election, access| election.renew(access, &adopted).await).await?;
                self.announced = 0;
            }
            Action::Renew { address, place } => {
                let Some(claim) = self.claim.clone() else { return Ok(()) };
                match self.with_etcd(node, async |election, access| election.renew(access, &claim).await).await {
                    Ok(renewed) => self.claim = renewed,
                    // It holds until its time is over; at the next beat it asks again.
                    Err(error) => {
                        tracing::info!("virtual IP: {error:#}");
                        self.claim = Some(claim.asked_in_vain());
                        return Ok(());
                    }
                }
                self.hold(address, &place, node).await?;
            }
            Action::Hold { address, place } => self.hold(address, &place, node).await?,
        }
        Ok(())
    }
}

/// In the election.
fn seat(address: std::net::IpAddr) -> String {
    format!("virtualip/{address}")
}

impl VirtualIp {
    /// What keeps this machine from being a candidate.
    fn fit(&mut self, node: &Node, machine: &Result<Machine, Vec<Missing>>) -> Result<(), Vec<Missing>> {
        let machine = machine.as_ref().map_err(Clone::clone)?;
        let needs = [
            (machine.is_control_plane(), "a control plane"),
            (self.keyring.get(node, CertificateId::EtcdHealthClient).is_some(), "certificate etcd-healthcheck-client"),
            (services::is_ready(&node.store, super::etcd::ID), "service etcd"),
            (ApiServer::local_ready(&node.store), "this machine's API server"),
            (!matches!(node.stage(), Stage::Rebooting | Stage::ShuttingDown | Stage::Resetting), "a machine that stays up"),
        ];
        let missing = super::machine::missing(needs);
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    async fn ask(&mut self, node: &Node, machine: &Machine, address: std::net::IpAddr) -> Told {
        let Some(certificate) = self.keyring.get(node, CertificateId::EtcdHealthClient) else { return Told::NotAsked };
        match self.election.holder(crate::etcd::access(&machine.config, &certificate), &seat(address)).await {
            Ok(None) => Told::Nobody,
            Ok(Some((by, lease))) => Told::Somebody { by, lease },
            Err(error) => Told::Silent(format!("{error:#}")),
        }
    }

    async fn with_etcd<T>(
        &mut self,
        node: &Node,
        asked: impl AsyncFnOnce(&Election, crate::etcd::Access<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let config = node.joined_config().context("the machine has no config")?;
        let certificate = self.keyring.get(node, CertificateId::EtcdHealthClient).context("the agent has no certificate for etcd")?;
        asked(&self.election, crate::etcd::access(&config, &certificate)).await
    }

    /// Has the kernel keep the address for as long as the claim lasts.
    async fn hold(&mut self, address: std::net::IpAddr, place: &Place, node: &Node) -> anyhow::Result<()> {
        let Some(claim) = &self.claim else { return Ok(()) };
        let Some(seconds) = plan::lifetime(claim.left()) else { return Ok(()) };
        hold(&self.netlink, address, place, seconds).await?;
        if self.announced < ANNOUNCEMENTS {
            announce(address, &place.link)?;
            if self.announced == 0 {
                node.events.emit("virtualip", "Held", format!("{address} is on {}", place.link));
            }
            self.announced += 1;
        }
        Ok(())
    }
}
