//! Hardware addresses of the machines on the machine's links, as the kernel remembers them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use futures::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use crate::controllers::network;
use crate::resources::network::{Neighbour, hardware_address};

pub async fn list() -> anyhow::Result<BTreeMap<String, Neighbour>> {
    let netlink = network::connect()?;
    let names = network::link_names(&netlink).await?;
    let messages: Vec<NeighbourMessage> = netlink.neighbours().get().execute().try_collect().await.context("listing neighbours")?;
    Ok(messages.iter().filter_map(|message| neighbour(message, &names)).collect())
}

/// None of what stands for no machine: multicast groups, and the machine's own addresses.
fn neighbour(message: &NeighbourMessage, names: &BTreeMap<u32, String>) -> Option<(String, Neighbour)> {
    let (mut address, mut hardware) = (None, String::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => hardware = hardware_address(bytes),
            _ => {}
        }
    }
    let (address, link) = (address?, names.get(&message.header.ifindex)?.clone());
    let state = match message.header.state {
        NeighbourState::Noarp | NeighbourState::None => return None,
        state => format!("{state:?}").to_lowercase(),
    };
    Some((format!("{link}/{address}"), Neighbour { link, address, hardware_address: hardware, state }))
}
