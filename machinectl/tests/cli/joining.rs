//! Join tokens and the machines that have joined.

use crate::fake::Fake;

#[test]
fn tokens_are_made_listed_and_revoked() {
    let fake = Fake::member();
    assert_eq!(fake.run(&["token", "create", "--node", "worker-1", "--expires", "1h"]).printed(), "abcdef.0123456789abcdef\n");
    let made = fake.run(&["token", "create", "--role", "controlplane", "-o", "json"]).json();
    assert_eq!((made["token"].as_str(), made["role"].as_str()), (Some("abcdef.0123456789abcdef"), Some("controlplane")));
    let list = fake.run(&["token", "list"]).printed();
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["ID", "ROLE", "NODE", "EXPIRES", "STATE"]);
    assert_eq!((rows[1][..3].to_vec(), rows[1][4], rows[1][5]), (vec!["abcdef", "worker", "worker-1"], "revoked", "os:admin/alice"));
    assert_eq!(rows[2], ["ghijkl", "-", "-", "-", "valid", "machine", "config"]);
    // Of a whole token only the id goes over the wire.
    assert_eq!(fake.run(&["token", "revoke", "abcdef.0123456789abcdef"]).printed(), "join token abcdef is revoked\n");
    let error = fake.run(&["token", "revoke", "nobody"]).complained(1);
    assert!(error.ends_with("join token nobody is not there; see machinectl token list\n"), "{error}");
    assert_eq!(
        fake.asked.lines(),
        [
            "token role=Worker node=worker-1 valid_for=Some(3600)",
            "token role=ControlPlane node= valid_for=Some(86400)",
            "revoke token abcdef",
        ]
    );
}

#[test]
fn machines_are_listed_and_revoked() {
    let fake = Fake::member();
    let list = fake.run(&["machines", "list"]).printed();
    assert!(list.contains("worker-1   worker   192.0.2.20   abcdef"), "{list}");
    assert!(fake.run(&["machines", "revoke", "worker-1"]).printed().contains("kubectl delete node worker-1"));
    assert_eq!(fake.asked.lines(), ["revoke machine worker-1"]);
}
