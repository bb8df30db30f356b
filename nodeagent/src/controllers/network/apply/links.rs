//! Carries out what is decided of VLANs, bonds and bridges.

use anyhow::Context;
use machine::{HardwareAddress, Root};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_packet_route::link::{BridgeStpState, LinkMessage};
use rtnetlink::{Handle, LinkBond, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVlan};

use super::super::PROTOCOL;
use super::super::kernel::link::{MODES, POLICIES, RATES};
use super::super::plan::links::LinkChange;
use super::{GONE, index, tolerate};
use crate::resources::link::{BondShape, BridgeShape, Shape};

/// All of them, also when one goes wrong: one link that cannot be made is no reason to leave another out.
pub async fn apply(netlink: &Handle, root: &Root, changes: Vec<LinkChange>) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for change in changes {
        tracing::info!(?change, "changing links");
        problems.extend(one(netlink, root, change).await.err().map(|error| format!("{error:#}")));
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

async fn one(netlink: &Handle, root: &Root, change: LinkChange) -> anyhow::Result<()> {
    match change {
        LinkChange::Load(module) => crate::controllers::kernel::load(root, &module).await,
        LinkChange::Add { link, shape, hardware_address } => {
            let address = hardware_address.as_deref().map(octets).transpose()?;
            let message = new(netlink, &link, &shape, address).await?;
            netlink.link().add(message).execute().await.with_context(|| format!("adding link {link}"))
        }
        LinkChange::Change { link, from, to } => {
            let message = match (&from, &to) {
                (_, Shape::Bond(bond)) => settings(LinkMessageBuilder::<LinkBond>::new(&link), bond).build(),
                (Shape::Bridge(from), Shape::Bridge(to)) => bridge_settings(LinkMessageBuilder::<LinkBridge>::new(&link), from, to).build(),
                _ => anyhow::bail!("link {link}: {from:?} is made anew, not changed to {to:?}"),
            };
            change_link(netlink, message).await.with_context(|| format!("changing link {link}"))
        }
        LinkChange::SetPrimary { bond, member } => {
            let chosen = match &member {
                Some(member) => index(netlink, member).await?,
                None => 0,
            };
            let message = LinkMessageBuilder::<LinkBond>::new(&bond).primary(chosen).build();
            change_link(netlink, message).await.with_context(|| format!("setting the primary of {bond} to {}", member.unwrap_or_default()))
        }
        LinkChange::SetHardwareAddress { link, hardware_address } => {
            let message = LinkUnspec::new_with_index(index(netlink, &link).await?).address(octets(&hardware_address)?).build();
            netlink.link().set(message).execute().await.with_context(|| format!("setting the hardware address of {link}"))
        }
        LinkChange::Remove { link } => {
            let kernel = super::super::kernel::read(netlink).await?;
            let Some(index) = kernel.links.get(&link).map(|link| link.index) else { return Ok(()) };
            tolerate(netlink.link().del(index).execute().await, &GONE, || format!("removing link {link}"))
        }
        LinkChange::Join { member, master } => {
            let (joining, master_index) = (index(netlink, &member).await?, index(netlink, &master).await?);
            // A bond takes only links that are down, and raises them itself; a port of a bridge is raised by whoever looks after links.
            let down = LinkUnspec::new_with_index(joining).down().build();
            netlink.link().set(down).execute().await.with_context(|| format!("taking link {member} down"))?;
            let join = LinkUnspec::new_with_index(joining).controller(master_index).build();
            netlink.link().set(join).execute().await.with_context(|| format!("adding link {member} to {master}"))
        }
        LinkChange::Leave { member } => {
            let message = LinkUnspec::new_with_index(index(netlink, &member).await?).nocontroller().build();
            netlink.link().set(message).execute().await.with_context(|| format!("taking link {member} out of its bond or bridge"))
        }
    }
}

/// RTM_NEWLINK without the flags that would make one: RTM_SETLINK leaves out what only a kind of links has.
async fn change_link(netlink: &Handle, message: LinkMessage) -> Result<(), rtnetlink::Error> {
    netlink.link().add(message).set_flags(NLM_F_REQUEST | NLM_F_ACK).execute().await
}

/// The mark (IFLA_GROUP) comes with the link itself: there is none of ours without it.
async fn new(netlink: &Handle, name: &str, shape: &Shape, address: Option<Vec<u8>>) -> anyhow::Result<LinkMessage> {
    let group = u32::from(PROTOCOL);
    Ok(match shape {
        Shape::Vlan(vlan) => LinkVlan::new(name, index(netlink, &vlan.parent).await?, vlan.id).link_group(group).build(),
        Shape::Bond(bond) => {
            let mode = MODES.iter().find(|(mode, _)| *mode == bond.mode).map(|(_, kernel)| *kernel).unwrap_or_default();
            let mut message = LinkBond::new(name).mode(mode);
            // Only this mode knows a rate.
            if bond.mode == machine::config::BondMode::Lacp
                && let Some((_, rate)) = RATES.iter().find(|(rate, _)| *rate == bond.lacp_rate)
            {
                message = message.ad_lacp_rate(*rate);
            }
            settings(message, bond).link_group(group).build()
        }
        Shape::Bridge(bridge) => {
            let message = bridge_settings(LinkBridge::new(name), &NEW_BRIDGE, bridge).link_group(group);
            match address {
                Some(address) => message.address(address).build(),
                None => message.build(),
            }
        }
    })
}

/// Those that can be set at any time.
fn settings(message: LinkMessageBuilder<LinkBond>, bond: &BondShape) -> LinkMessageBuilder<LinkBond> {
    let message = message.miimon(bond.mii_monitor).updelay(bond.up_delay).downdelay(bond.down_delay).min_links(bond.min_links);
    match POLICIES.iter().find(|(policy, _)| *policy == bond.transmit_hash_policy) {
        Some((_, policy)) => message.xmit_hash_policy(*policy),
        None => message,
    }
}

/// As the kernel makes one.
const NEW_BRIDGE: BridgeShape = BridgeShape { stp: false, vlan_filtering: false };

/// What differs alone: a kernel without VLAN filtering of bridges refuses to be told that there is to be none.
fn bridge_settings(mut message: LinkMessageBuilder<LinkBridge>, from: &BridgeShape, to: &BridgeShape) -> LinkMessageBuilder<LinkBridge> {
    if from.stp != to.stp {
        message = message.stp_state(if to.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled });
    }
    if from.vlan_filtering != to.vlan_filtering {
        message = message.vlan_filtering(to.vlan_filtering);
    }
    message
}

fn octets(text: &str) -> anyhow::Result<Vec<u8>> {
    let address: HardwareAddress = text.parse().with_context(|| format!("hardware address {text:?}"))?;
    Ok(address.0.to_vec())
}
