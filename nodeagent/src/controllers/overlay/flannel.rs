//! How Nodes tell of their ends of the overlay: flannel's annotations, so that machines with flannel and machines with Corten exchange
//! packets. What is read here was written by others, and is bounded before it is looked at.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::resources::overlay::{Announcement, Tunnel, TunnelEnd, VxlanEnd, WireguardEnd};
use crate::resources::public_key::PublicKey;
use machine::HardwareAddress;

pub const VXLAN: &str = "vxlan";
pub const WIREGUARD: &str = "wireguard";
/// Packets go to machines on the same link as they are. Of Corten's machines it has the data of VXLAN besides, for all others: flannel's
/// leave that unread.
pub const HOST_GATEWAY: &str = "host-gw";
/// The only network identifier that is spoken: flannel's default.
pub const VNI: u32 = 1;

const BACKEND: &str = "flannel.alpha.coreos.com/backend-type";
/// Says that the pod networks stand in the Node's spec.
const KUBE_MANAGED: &str = "flannel.alpha.coreos.com/kube-subnet-manager";
/// Data and address of one family each.
const FAMILIES: [(&str, &str); 2] = [
    ("flannel.alpha.coreos.com/backend-data", "flannel.alpha.coreos.com/public-ip"),
    ("flannel.alpha.coreos.com/backend-v6-data", "flannel.alpha.coreos.com/public-ipv6"),
];

/// The longest value that is read; flannel's are below 100.
const LONGEST: usize = 1024;

/// What stands in the data of backend vxlan.
#[derive(Debug, Serialize, Deserialize)]
struct VxlanData {
    // Others leave it out.
    #[serde(rename = "VNI", default = "vni")]
    vni: u32,
    #[serde(rename = "VtepMAC")]
    hardware_address: HardwareAddress,
}

/// What stands in the data of backend wireguard.
#[derive(Debug, Serialize, Deserialize)]
struct WireguardData {
    #[serde(rename = "PublicKey")]
    public_key: PublicKey,
    /// flannel before 0.28 tells none.
    #[serde(rename = "Port", default)]
    port: Option<u16>,
}

fn vni() -> u32 {
    VNI
}

fn tunnel(backend: &str, data: &str) -> Result<Tunnel, serde_json::Error> {
    Ok(match backend {
        WIREGUARD => {
            let WireguardData { public_key, port } = serde_json::from_str(data)?;
            Tunnel::Wireguard(WireguardEnd { public_key, port })
        }
        _ => {
            let VxlanData { vni, hardware_address } = serde_json::from_str(data)?;
            Tunnel::Vxlan(VxlanEnd { hardware_address, vni })
        }
    })
}

fn data(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Vxlan(VxlanEnd { hardware_address, vni }) => format!(r#"{{"VNI":{vni},"VtepMAC":"{hardware_address}"}}"#),
        Tunnel::Wireguard(WireguardEnd { public_key, port: Some(port) }) => format!(r#"{{"PublicKey":"{public_key}","Port":{port}}}"#),
        Tunnel::Wireguard(WireguardEnd { public_key, port: None }) => format!(r#"{{"PublicKey":"{public_key}"}}"#),
    }
}

/// What a Node tells; none where it tells nothing, and why it cannot be used otherwise.
pub fn read(annotations: &BTreeMap<String, String>) -> Result<Option<Announcement>, String> {
    let Some(backend) = value(annotations, BACKEND)? else { return Ok(None) };
    if ![VXLAN, WIREGUARD, HOST_GATEWAY].contains(&backend) {
        return Ok(Some(Announcement { backend: backend.to_owned(), ends: Vec::new() }));
    }
    let mut ends = Vec::new();
    for (data_name, address_name) in FAMILIES {
        // flannel writes null for a family that it does not carry, and for what has no data.
        let text = value(annotations, data_name)?.filter(|text| !text.is_empty() && *text != "null");
        let tunnel = text.map(|text| tunnel(backend, text)).transpose().map_err(|error| format!("annotation {data_name}: {error}"))?;
        let address = value(annotations, address_name)?.filter(|text| !text.is_empty());
        let address = match (tunnel, address) {
            (None, _) if backend != HOST_GATEWAY => continue,
            (None, None) => continue,
            (Some(_), None) => return Err(format!("annotation {address_name} is missing")),
            (_, Some(address)) => address,
        };
        let parsed: Option<IpAddr> = address.parse().ok();
        let parsed = parsed.filter(|parsed| parsed.is_ipv6() == (address_name == FAMILIES[1].1));
        let address = parsed.ok_or_else(|| format!("annotation {address_name}: {:?} is no address of that family", short(address)))?;
        ends.push(TunnelEnd { address, tunnel });
    }
    Ok(Some(Announcement { backend: backend.to_owned(), ends }))
}

/// What comes from strangers is not repeated at any length.
fn short(text: &str) -> String {
    text.chars().take(48).collect()
}

/// A value short enough to be read.
fn value<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Result<Option<&'a str>, String> {
    match annotations.get(name) {
        Some(text) if text.len() > LONGEST => Err(format!("annotation {name}: {} bytes; expected at most {LONGEST}", text.len())),
        Some(text) => Ok(Some(text.trim())),
        None => Ok(None),
    }
}

/// The annotations of an announcement; none of a value takes that annotation away.
pub fn write(announcement: &Announcement) -> BTreeMap<&'static str, Option<String>> {
    let mut annotations = BTreeMap::from([(BACKEND, Some(announcement.backend.clone())), (KUBE_MANAGED, Some("true".to_owned()))]);
    for (ipv6, (data_name, address_name)) in [false, true].into_iter().zip(FAMILIES) {
        let end = announcement.ends.iter().find(|end| end.address.is_ipv6() == ipv6);
        annotations.insert(data_name, end.and_then(|end| end.tunnel).map(data));
        annotations.insert(address_name, end.map(|end| end.address.to_string()));
    }
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (format!("flannel.alpha.coreos.com/{name}"), (*value).to_owned())).collect()
    }

    fn end(address: &str, hardware_address: &str) -> TunnelEnd {
        let end = VxlanEnd { hardware_address: hardware_address.parse().unwrap(), vni: 1 };
        TunnelEnd { address: address.parse().unwrap(), tunnel: Some(Tunnel::Vxlan(end)) }
    }

    const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn secure(address: &str, port: Option<u16>) -> TunnelEnd {
        let end = WireguardEnd { public_key: KEY.parse().unwrap(), port };
        TunnelEnd { address: address.parse().unwrap(), tunnel: Some(Tunnel::Wireguard(end)) }
    }

    fn plain(address: &str) -> TunnelEnd {
        TunnelEnd { address: address.parse().unwrap(), tunnel: None }
    }

    #[test]
    fn what_flannel_writes_is_read() {
        let both = annotations(&[
            ("backend-type", "vxlan"),
            ("backend-data", r#"{"VNI":1,"VtepMAC":"12:62:b6:2a:21:cf"}"#),
            ("backend-v6-data", r#"{"VNI":1,"VtepMAC":"ba:5d:da:3f:78:e1"}"#),
            ("public-ip", "192.0.2.10"),
            ("public-ipv6", "2001:db8::10"),
            ("kube-subnet-manager", "true"),
        ]);
        let read_back = read(&both).unwrap().unwrap();
        assert_eq!(read_back.ends, [end("192.0.2.10", "12:62:b6:2a:21:cf"), end("2001:db8::10", "ba:5d:da:3f:78:e1")]);
        let one = annotations(&[
            ("backend-type", "vxlan"),
            ("backend-data", r#"{"VtepMAC":"12:62:b6:2a:21:cf"}"#),
            ("backend-v6-data", "null"),
            ("public-ip", "192.0.2.10"),
        ]);
        assert_eq!(read(&one).unwrap().unwrap().ends, [end("192.0.2.10", "12:62:b6:2a:21:cf")]);
        assert_eq!(read(&annotations(&[])), Ok(None));
        let host_gateway = annotations(&[("backend-type", "host-gw"), ("backend-data", "null"), ("public-ip", "192.0.2.10")]);
        assert_eq!(read(&host_gateway).unwrap().unwrap().ends, [plain("192.0.2.10")]);
        let (data, old) = (format!(r#"{{"PublicKey":"{KEY}","Port":51820}}"#), format!(r#"{{"PublicKey":"{KEY}"}}"#));
        let wireguard = annotations(&[
            ("backend-type", "wireguard"),
            ("backend-data", &data),
            ("backend-v6-data", &old),
            ("public-ip", "192.0.2.10"),
            ("public-ipv6", "2001:db8::10"),
        ]);
        assert_eq!(read(&wireguard).unwrap().unwrap().ends, [secure("192.0.2.10", Some(51820)), secure("2001:db8::10", None)]);
        let other = read(&annotations(&[("backend-type", "ipip"), ("backend-data", "null")])).unwrap().unwrap();
        assert_eq!((other.backend.as_str(), other.ends.len()), ("ipip", 0));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (backend, ends) in [
            (VXLAN, vec![end("192.0.2.10", "02:00:00:00:00:01")]),
            (VXLAN, vec![end("2001:db8::10", "02:00:00:00:00:02")]),
            (VXLAN, Vec::new()),
            (WIREGUARD, vec![secure("192.0.2.10", Some(8472)), secure("2001:db8::10", Some(8473))]),
            (HOST_GATEWAY, vec![end("192.0.2.10", "02:00:00:00:00:01"), plain("2001:db8::10")]),
        ] {
            let announcement = Announcement { backend: backend.to_owned(), ends };
            let written = write(&announcement);
            assert_eq!(written.len(), 6, "what is of no use any more is taken away");
            let present = written.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            assert_eq!(read(&present.collect()), Ok(Some(announcement)));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let data = r#"{"VNI":1,"VtepMAC":"12:62:b6:2a:21:cf"}"#;
        let huge = "x".repeat(1 << 20);
        for (backend, data, address, message) in [
            ("vxlan", "{}", "192.0.2.10", "annotation flannel.alpha.coreos.com/backend-data: missing field `VtepMAC` at line 1 column 2"),
            ("vxlan", r#"{"VtepMAC":"12:62"}"#, "192.0.2.10", "no hardware address"),
            ("vxlan", data, "192.0.2.300", r#"annotation flannel.alpha.coreos.com/public-ip: "192.0.2.300" is no address of that family"#),
            ("vxlan", data, "2001:db8::1", "is no address of that family"),
            ("host-gw", "null", &"9".repeat(1000), "is no address of that family"),
            ("wireguard", data, "192.0.2.10", "missing field `PublicKey`"),
            ("wireguard", r#"{"PublicKey":"xTIB"}"#, "192.0.2.10", r#""xTIB" is no public key; expected 32 bytes in base64"#),
            (
                "wireguard",
                &format!(r#"{{"PublicKey":"{KEY}","Port":70000}}"#),
                "192.0.2.10",
                "invalid value: integer `70000`, expected u16",
            ),
            ("vxlan", &huge, "192.0.2.10", "annotation flannel.alpha.coreos.com/backend-data: 1048576 bytes; expected at most 1024"),
            (&huge, data, "192.0.2.10", "annotation flannel.alpha.coreos.com/backend-type: 1048576 bytes; expected at most 1024"),
        ] {
            let wrong = annotations(&[("backend-type", backend), ("backend-data", data), ("public-ip", address)]);
            let said = read(&wrong).unwrap_err();
            assert!(said.contains(message) && said.len() < 300, "{said}");
        }
        let silent = annotations(&[("backend-type", "vxlan"), ("backend-data", data)]);
        assert_eq!(read(&silent).unwrap_err(), "annotation flannel.alpha.coreos.com/public-ip is missing");
    }
}
