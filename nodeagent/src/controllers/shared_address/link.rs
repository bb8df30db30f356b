//! The address in the kernel: on the link of the node IP, with a lifetime, and never the source of what the machine sends by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Context;
use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use nix::errno::Errno;
use rtnetlink::{Error, Handle};

/// The link of the machine's node IP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Empty where no link has it.
    pub link: String,
    pub index: u32,
    pub present: bool,
}

/// Addresses of the machine's links, as they were at one moment.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// With the length of the prefix and the link's index.
    addresses: Vec<(IpAddr, u8, u32)>,
    links: BTreeMap<u32, String>,
}

impl Kernel {
    pub async fn read(netlink: &Handle) -> anyhow::Result<Kernel> {
        let messages: Vec<AddressMessage> = netlink.address().get().execute().try_collect().await.context("listing addresses")?;
        let known = |message: &AddressMessage| Some((own(message)?, message.header.prefix_len, message.header.index));
        let links: Vec<LinkMessage> = netlink.link().get().execute().try_collect().await.context("listing links")?;
        Ok(Kernel { addresses: messages.iter().filter_map(known).collect(), links: links.into_iter().filter_map(named).collect() })
    }

    /// The link that has the node IP of the address's family; and whether the address is there.
    pub fn place(&self, address: IpAddr, node_ips: &[IpAddr]) -> Place {
        let on = |wanted: IpAddr| self.addresses.iter().find(|(there, ..)| *there == wanted).map(|(_, _, index)| *index);
        let node_ip = node_ips.iter().find(|ip| ip.is_ipv4() == address.is_ipv4());
        let held = on(address);
        let Some(index) = held.or(node_ip.and_then(|ip| on(*ip))) else { return Place::default() };
        Place { link: self.links.get(&index).cloned().unwrap_or_default(), index, present: held.is_some() }
    }

    /// Those without a network around them, as shared addresses are.
    pub fn single(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().filter(|(address, length, _)| *length == bits(*address)).map(|(address, ..)| *address).collect()
    }
}

fn named(message: LinkMessage) -> Option<(u32, String)> {
    let index = message.header.index;
    message.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some((index, name)),
        _ => None,
    })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn own(message: &AddressMessage) -> Option<IpAddr> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = |attribute: &AddressAttribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None };
    let address = |attribute: &AddressAttribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None };
    of(local).or_else(|| of(address))
}

/// Adds the address, or has the kernel keep it longer.
pub async fn hold(netlink: &Handle, address: IpAddr, place: &Place, seconds: u32) -> anyhow::Result<()> {
    let mut request = netlink.address().add(place.index, address, bits(address)).replace();
    let message = request.message_mut();
    let mut lifetime = CacheInfo::default();
    // IPv6: one that is no longer preferred is not chosen for connections of the machine's own (RFC 6724, rule 3). IPv4 chooses by the network.
    (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, seconds);
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    // Whoever chose this machine sees to it that nobody else has it.
    message.header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await.with_context(|| format!("adding {address} to {}", place.link))
}

/// What is gone already is fine.
pub async fn remove(netlink: &Handle, address: IpAddr, place: &Place) -> anyhow::Result<()> {
    let mut request = netlink.address().add(place.index, address, bits(address));
    let message = request.message_mut().clone();
    match netlink.address().del(message).execute().await {
        Err(Error::NetlinkError(error)) if [Errno::EADDRNOTAVAIL, Errno::ENODEV].iter().any(|gone| error.raw_code() == -(*gone as i32)) => {
            Ok(())
        }
        removed => removed.with_context(|| format!("removing {address} from {}", place.link)),
    }
}
