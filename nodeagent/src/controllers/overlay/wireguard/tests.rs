//! The bytes that the kernel gets and gives. This kernel may have no WireGuard: what goes to it is compared with the layout of its header
//! (include/uapi/linux/wireguard.h), and what it answers is read from bytes of that layout.

use std::fmt::Write as _;

use super::*;

fn secure(endpoint: &str, pods: &[&str]) -> Secure {
    Secure { endpoint: Some(endpoint.parse().unwrap()), pods: pods.iter().map(|pods| pods.parse().unwrap()).collect() }
}

fn operation(verb: Verb, key: u8, endpoint: &str, pods: &[&str]) -> Operation {
    Operation { verb, entry: Entry::Secure { device: "flannel-wg", public_key: PublicKey([key; 32]), peer: secure(endpoint, pods) } }
}

/// One attribute: length, kind, value, and zeros up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const NESTED: u16 = 0x8000;

#[test]
fn peers_are_sent_as_the_kernel_reads_them() {
    let operations =
        [operation(Verb::Add, 3, "192.0.2.3:51820", &["10.244.3.0/24"]), operation(Verb::Remove, 4, "192.0.2.4:51820", &["10.244.4.0/24"])];
    let mut messages: Vec<Message<Netlink>> = operations.iter().filter_map(|operation| message(operation, 29)).collect();
    let sent = batch::bytes(&mut messages).unwrap();

    // struct sockaddr_in: family, port and address in network order, eight bytes of nothing.
    let mut endpoint = 2_u16.to_ne_bytes().to_vec();
    endpoint.extend([0xca, 0x6c, 192, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    let allowed = [attribute(1, &2_u16.to_ne_bytes()), attribute(2, &[10, 244, 3, 0]), attribute(3, &[24])].concat();
    let added = [
        attribute(1, &[3; 32]),
        attribute(3, &2_u32.to_ne_bytes()),
        attribute(4, &endpoint),
        attribute(9 | NESTED, &attribute(NESTED, &allowed)),
    ]
    .concat();
    let removed = [attribute(1, &[4; 32]), attribute(3, &1_u32.to_ne_bytes())].concat();
    let expected: Vec<u8> = [(1_u32, 1_u16, added), (2, 1 | 4, removed)]
        .into_iter()
        .flat_map(|(number, flags, peer)| {
            // Command SetDevice, version 1.
            let mut body = vec![1, 1, 0, 0];
            body.extend(attribute(2, b"flannel-wg\0"));
            body.extend(attribute(8 | NESTED, &attribute(NESTED, &peer)));
            let mut bytes = u32::try_from(body.len() + 16).unwrap().to_ne_bytes().to_vec();
            bytes.extend(29_u16.to_ne_bytes());
            bytes.extend(flags.to_ne_bytes());
            bytes.extend(number.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(body);
            bytes
        })
        .collect();
    assert_eq!(shown(&sent), shown(&expected));
    let words: Vec<&str> = messages.iter().map(|message| message.what.split(' ').next().unwrap()).collect();
    assert_eq!(words, ["adding", "removing"]);
}

fn shown(bytes: &[u8]) -> String {
    bytes.chunks(4).fold(String::new(), |mut text, word| {
        writeln!(text, "{}", hex::encode(word)).unwrap();
        text
    })
}

/// A peer with more networks than go into one part comes in two, the second with its key and nothing else.
#[test]
fn a_device_is_read_in_parts() {
    let network =
        |address: [u8; 4]| attribute(NESTED, &[attribute(1, &2_u16.to_ne_bytes()), attribute(2, &address), attribute(3, &[24])].concat());
    let mut endpoint = 2_u16.to_ne_bytes().to_vec();
    endpoint.extend([0xca, 0x6c, 192, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    let first = [attribute(1, &[3; 32]), attribute(4, &endpoint), attribute(9 | NESTED, &network([10, 244, 3, 0]))].concat();
    let second = [attribute(1, &[3; 32]), attribute(9 | NESTED, &network([10, 244, 4, 0]))].concat();
    let parts = [
        [
            attribute(1, &7_u32.to_ne_bytes()),
            attribute(2, b"flannel-wg\0"),
            attribute(3, &[9; 32]),
            attribute(4, &[5; 32]),
            attribute(6, &51820_u16.to_ne_bytes()),
            attribute(8 | NESTED, &attribute(NESTED, &first)),
        ]
        .concat(),
        [attribute(2, b"flannel-wg\0"), attribute(8 | NESTED, &attribute(NESTED, &second))].concat(),
    ];
    let datagram: Vec<u8> = parts
        .iter()
        .flat_map(|part| {
            let mut bytes = u32::try_from(part.len() + 20).unwrap().to_ne_bytes().to_vec();
            bytes.extend(29_u16.to_ne_bytes());
            bytes.extend(2_u16.to_ne_bytes());
            bytes.extend([0; 8]);
            bytes.extend([0, 1, 0, 0]);
            bytes.extend(part);
            bytes
        })
        .collect();
    let mut present =
        Present { ours: true, is: Is::Wireguard { public_key: None }, port: 0, mtu: 1440, up: true, addresses: BTreeSet::new() };
    let mut tables = Tables::default();
    let messages: Vec<_> = batch::answers::<Netlink>(&datagram).collect::<Result<_, _>>().unwrap();
    let attributes = messages.into_iter().flat_map(|message| match message.payload {
        netlink_packet_core::NetlinkPayload::InnerMessage(part) => part.payload.attributes,
        other => panic!("{other:?}"),
    });
    take("flannel-wg", attributes, &mut present, &mut tables);
    assert_eq!((present.is, present.port), (Is::Wireguard { public_key: Some(PublicKey([5; 32])) }, 51820));
    let expected = secure("192.0.2.3:51820", &["10.244.3.0/24", "10.244.4.0/24"]);
    assert_eq!(tables.secures.into_iter().collect::<Vec<_>>(), [(("flannel-wg", PublicKey([3; 32])), expected)]);
}

/// The one family that every kernel has, and one that none has.
#[tokio::test]
async fn the_kernel_tells_its_families_apart() {
    assert_eq!(family("nlctrl").await.unwrap(), 16);
    let error = format!("{:#}", family("nosuchfamily").await.unwrap_err());
    assert!(error.starts_with("asking the kernel for nosuchfamily (is its module loaded?): "), "{error}");
}
