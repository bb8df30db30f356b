//! One link's DHCPv4 client: keeps the lease on the board for as long as it is valid.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use mozim::{DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};

use crate::node::Node;
use crate::resources::network::{Lease, LeaseRoute};

const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Runs until it is aborted, or until the link is gone.
pub async fn run(node: Node, link: String, index: u32, hardware_address: String) {
    let mut retry = RETRY_MIN;
    loop {
        match keep(&node, &link, index, &hardware_address).await {
            Ok(()) => retry = RETRY_MIN,
            Err(error) => tracing::warn!(link, "DHCP: {error:#}"),
        }
        // A lease that ran out is not to be used any longer (RFC 2131, 4.4.5).
        node.store.remove::<Lease>(&link);
        if !node.root.path(&format!("/sys/class/net/{link}")).exists() {
            return;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Asks for a lease and renews it; ends with the lease.
async fn keep(node: &Node, link: &str, index: u32, hardware_address: &str) -> anyhow::Result<()> {
    let mut config = DhcpV4Config::new(link);
    config.set_iface_index(index).set_iface_mac(hardware_address)?;
    config.use_mac_as_client_id();
    let mut client = DhcpV4Client::init(config, None).await?;
    loop {
        if let DhcpV4State::Done(granted) = client.run().await? {
            let lease = lease(&granted)?;
            tracing::info!(link, address = %lease.address, seconds = lease.seconds, "DHCP lease");
            node.store.put(link, &lease);
        }
    }
}

fn lease(granted: &DhcpV4Lease) -> anyhow::Result<Lease> {
    let address = Ipv4Net::with_netmask(granted.yiaddr, granted.subnet_mask)?;
    Ok(Lease {
        address: IpNet::V4(address),
        routes: routes(granted),
        nameservers: granted.dns_srvs.iter().flatten().copied().map(IpAddr::V4).collect(),
        time_servers: granted.ntp_srvs.iter().flatten().copied().map(IpAddr::V4).collect(),
        hostname: granted.host_name.clone(),
        mtu: granted.mtu,
        server: IpAddr::V4(granted.srv_id),
        seconds: granted.lease_time_sec,
    })
}

/// Classless routes replace the router option where a server gives both (RFC 3442).
fn routes(granted: &DhcpV4Lease) -> Vec<LeaseRoute> {
    if let Some(classless) = &granted.classless_routes {
        let route = |route: &mozim::DhcpV4ClasslessRoute| {
            let to = IpNet::V4(Ipv4Net::new(route.destination, route.prefix_length).ok()?.trunc());
            let via = Some(IpAddr::V4(route.router)).filter(|router| !router.is_unspecified());
            Some(LeaseRoute { to, via })
        };
        return classless.iter().filter_map(route).collect();
    }
    let default = |router: &std::net::Ipv4Addr| LeaseRoute { to: IpNet::V4(Ipv4Net::default()), via: Some(IpAddr::V4(*router)) };
    granted.gateways.iter().flatten().take(1).map(default).collect()
}
