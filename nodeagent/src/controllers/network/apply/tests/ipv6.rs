//! How soon an IPv6 address of the config is of use.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;

async fn state(netlink: &Handle, address: &Address) -> Option<AddressState> {
    let seen = kernel::read(netlink).await.unwrap();
    seen.addresses.into_iter().find(|there| there.key() == address.key()).map(|there| there.state)
}

#[test]
fn the_machine_listens_and_calls_itself_on_an_address_that_the_kernel_still_looks_at() {
    in_namespace(|| async {
        let netlink = kernel::connect().unwrap();
        netlink.link().add(LinkVeth::new("eth0", "peer").build()).execute().await.unwrap();
        let up = |link: &str| Action::SetLink { link: link.into(), up: true, mtu: None };
        let ip: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let address =
            Address { link: "eth0".into(), address: IpNet::new(ip.into(), 64).unwrap(), owned: true, state: AddressState::default() };
        // As every node has it: the kernel would not choose such an address by itself then.
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        do_all(vec![up("lo"), up("eth0"), up("peer"), Action::AddAddress(address.clone())], &netlink).await;
        // On a machine with much to do the kernel is done already: then this proves nothing, and does not fail.
        let listener = TcpListener::bind(SocketAddr::from((ip, 0))).unwrap();
        let there = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        let patiently = async |what: &dyn std::fmt::Debug| {
            assert!(Instant::now() < deadline, "{what:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        // A worker of the kernel makes the way.
        while let Err(error) = TcpStream::connect_timeout(&there, Duration::from_secs(5)) {
            patiently(&error).await;
        }
        while state(&netlink, &address).await != Some(AddressState::Usable) {
            patiently(&kernel::read(&netlink).await.unwrap().addresses).await;
        }
    });
}
