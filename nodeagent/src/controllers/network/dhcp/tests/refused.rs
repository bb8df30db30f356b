//! An IPv6 address of the config that the machine at the other end of the wire has already: the kernel asks and refuses, and the agent has it ask again.

use super::*;
use crate::resources::network::AddressState;

const ADDRESS: &str = "2001:db8::50";

/// What the board says of the address on `eth0`.
fn state(lab: &Lab) -> Option<AddressState> {
    lab.node.store.get::<Address>(&format!("eth0/{ADDRESS}/64")).map(|address| address.state)
}

fn duplicates(lab: &Lab) -> Vec<(String, bool)> {
    lab.node.store.all::<Duplicate>().into_values().map(|duplicate| (duplicate.name(), duplicate.used)).collect()
}

/// A machine whose address is refused.
async fn refused() -> Lab {
    let lab = Lab::new(json!({ "name": "eth0" }), Conduct::granting(10)).await;
    lab.other_machine_has(ADDRESS).await;
    lab.configure(json!({ "name": "eth0", "addresses": [format!("{ADDRESS}/64"), "2001:db8::51/64"] }));
    lab.until("the duplicate is told", |lab| lab.has_told("DuplicateAddress")).await;
    lab.until("the kernel does not use it", |lab| state(lab) == Some(AddressState::Dadfailed)).await;
    assert_eq!(duplicates(&lab), [(format!("eth0/{ADDRESS}"), false)]);
    let is_used =
        |lab: &Lab| lab.node.store.get::<Address>("eth0/2001:db8::51/64").is_some_and(|address| address.state == AddressState::Usable);
    lab.until("the other one is used", is_used).await;
    lab
}

async fn mended(lab: &Lab) {
    lab.until("the kernel uses it", |lab| state(lab) == Some(AddressState::Usable)).await;
    lab.until("the end is told", |lab| lab.has_told("DuplicateAddressGone") && duplicates(lab).is_empty()).await;
    let told: Vec<&str> = lab.told().iter().map(|(reason, _)| *reason).filter(|reason| reason.starts_with("Duplicate")).collect();
    assert_eq!(told, ["DuplicateAddress", "DuplicateAddressGone"]);
}

#[test]
fn an_ipv6_address_comes_into_use_by_itself_once_the_other_machine_has_it_no_more() {
    in_namespace(|| async {
        let lab = refused().await;
        let other = nix::net::if_::if_nametoindex("peer0").unwrap();
        let mut message = lab.netlink.address().add(other, ADDRESS.parse().unwrap(), 128);
        let message = message.message_mut().clone();
        lab.netlink.address().del(message).execute().await.unwrap();
        mended(&lab).await;
    });
}

#[test]
fn an_ipv6_address_is_looked_at_again_when_the_carrier_is_back() {
    in_namespace(|| async {
        let lab = refused().await;
        // The kernel drops the addresses of a link that is set down.
        lab.set_up("peer0", false).await;
        lab.until("no carrier", |lab| lab.node.store.get::<Link>("eth0").is_some_and(|link| !link.carrier)).await;
        assert_eq!(duplicates(&lab), [(format!("eth0/{ADDRESS}"), false)]);
        lab.set_up("peer0", true).await;
        mended(&lab).await;
    });
}
