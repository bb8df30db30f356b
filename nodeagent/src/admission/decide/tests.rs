use super::*;

const WORKER: [u8; 4] = [192, 0, 2, 101];

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

fn shown() -> Token {
    token("abcdef.0123456789abcdef")
}

fn worker() -> Asked {
    Asked {
        node: "worker-1".to_owned(),
        role: Role::Worker,
        addresses: vec![WORKER.into()],
        from: WORKER.into(),
        key: "k1".to_owned(),
        credential: Credential::Token(Some(shown())),
        proved_control_plane: false,
    }
}

fn control_plane() -> MachineRecord {
    record("cp-1", Role::ControlPlane, "k0", [192, 0, 2, 10])
}

fn record(node: &str, role: Role, key: &str, address: [u8; 4]) -> MachineRecord {
    MachineRecord {
        version: 1,
        node: node.to_owned(),
        role,
        key: key.to_owned(),
        addresses: vec![address.into()],
        token: "abcdef".to_owned(),
        joined_at: 50,
        revoked: false,
    }
}

fn known() -> Known {
    Known {
        token: Some(TokenRecord::of_config(&shown())),
        machines: vec![control_plane()],
        nodes: vec![("cp-1".to_owned(), vec![[192, 0, 2, 10].into()])],
        networks: vec!["10.244.0.0/16".parse().unwrap()],
        now: 100,
    }
}

fn reason(asked: &Asked, known: &Known) -> &'static str {
    match decide(asked, known) {
        Err(Refusal::State { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_with_the_configs_token_is_written_down_as_it_proved() {
    let grant = decide(&worker(), &known()).unwrap();
    assert_eq!(grant.machine, MachineRecord { joined_at: 100, ..record("worker-1", Role::Worker, "k1", WORKER) });
    assert_eq!(grant.changed, []);
    // The answer may have been lost: it asks again, with the same key.
    let again = Known { machines: vec![control_plane(), grant.machine.clone()], now: 200, ..known() };
    assert_eq!(decide(&worker(), &again).unwrap().machine, grant.machine);
}

#[test]
fn tokens() {
    let with = |change: fn(&mut TokenRecord)| {
        let mut record = TokenRecord::of_config(&shown());
        change(&mut record);
        Known { token: Some(record), ..known() }
    };
    assert_eq!(reason(&worker(), &Known { token: None, ..known() }), "TOKEN_UNKNOWN");
    let wrong = Asked { credential: Credential::Token(Some(token("abcdef.0123456789abcdee"))), ..worker() };
    assert_eq!(reason(&wrong, &known()), "TOKEN_UNKNOWN");
    assert_eq!(reason(&Asked { credential: Credential::Token(None), ..worker() }, &known()), "TOKEN_UNKNOWN");
    assert_eq!(reason(&worker(), &with(|token| token.expires = Some(100))), "TOKEN_EXPIRED");
    decide(&worker(), &with(|token| token.expires = Some(101))).unwrap();
    assert_eq!(reason(&worker(), &with(|token| token.revoked = true)), "TOKEN_REVOKED");
    assert_eq!(reason(&worker(), &with(|token| token.node = Some("worker-2".to_owned()))), "TOKEN_NODE");
    assert_eq!(reason(&worker(), &with(|token| token.role = Some(Role::ControlPlane))), "TOKEN_ROLE");
}

#[test]
fn the_configs_token_makes_control_planes_of_those_that_hold_their_config() {
    let asked = Asked { role: Role::ControlPlane, ..worker() };
    assert_eq!(reason(&asked, &known()), "TOKEN_ROLE", "every worker has this token");
    decide(&Asked { proved_control_plane: true, ..asked.clone() }, &known()).unwrap();
    let made = TokenRecord { role: Some(Role::ControlPlane), ..TokenRecord::of_config(&shown()) };
    decide(&asked, &Known { token: Some(made), ..known() }).unwrap();
    let made = TokenRecord { role: Some(Role::Worker), ..TokenRecord::of_config(&shown()) };
    assert_eq!(reason(&Asked { proved_control_plane: true, ..asked }, &Known { token: Some(made), ..known() }), "TOKEN_ROLE");
}

#[test]
fn names_are_taken_once() {
    let joined = Known { machines: vec![control_plane(), record("worker-1", Role::Worker, "k1", WORKER)], ..known() };
    let other = Asked { key: "k2".to_owned(), ..worker() };
    assert_eq!(reason(&other, &joined), "NAME_TAKEN");
    assert_eq!(reason(&Asked { node: "cp-1".to_owned(), ..worker() }, &known()), "NAME_TAKEN");
    let stranger = Known { nodes: vec![("worker-1".to_owned(), vec![])], ..known() };
    assert_eq!(reason(&worker(), &stranger), "NAME_TAKEN");
    // A worker's key does not make a control plane of the same machine.
    let risen = Asked { role: Role::ControlPlane, proved_control_plane: true, ..worker() };
    assert_eq!(reason(&risen, &joined), "NAME_TAKEN");

    let meant = |node: &str| TokenRecord { node: Some(node.to_owned()), role: Some(Role::Worker), ..TokenRecord::of_config(&shown()) };
    let grant = decide(&other, &Known { token: Some(meant("worker-1")), ..joined }).unwrap();
    assert_eq!((grant.machine.key.as_str(), grant.machine.joined_at), ("k2", 100));
    let usurper = Asked { node: "cp-1".to_owned(), ..worker() };
    assert_eq!(reason(&usurper, &Known { token: Some(meant("cp-1")), ..known() }), "NAME_TAKEN", "a control plane's");
}

#[test]
fn a_certificate_is_good_for_its_own_machine_only() {
    let joined = Known { token: None, machines: vec![control_plane(), record("worker-1", Role::Worker, "k1", WORKER)], ..known() };
    let by = |node: &str, key: &str| Credential::Certificate { node: node.to_owned(), key: key.to_owned() };
    let renewed = decide(&Asked { credential: by("worker-1", "k1"), ..worker() }, &joined).unwrap();
    assert_eq!(renewed.machine, joined.machines[1]);
    let moved =
        Asked { credential: by("worker-1", "k1"), addresses: vec![[192, 0, 2, 102].into()], from: [192, 0, 2, 102].into(), ..worker() };
    assert_eq!(decide(&moved, &joined).unwrap().machine.addresses, moved.addresses);

    assert_eq!(reason(&Asked { credential: by("worker-2", "k2"), ..worker() }, &joined), "OTHER_MACHINE");
    assert_eq!(reason(&Asked { credential: by("worker-1", "k2"), ..worker() }, &joined), "OTHER_MACHINE");
    assert_eq!(reason(&Asked { key: "k3".to_owned(), credential: by("worker-1", "k1"), ..worker() }, &joined), "OTHER_MACHINE");
    let risen = Asked { role: Role::ControlPlane, proved_control_plane: true, credential: by("worker-1", "k1"), ..worker() };
    assert_eq!(reason(&risen, &joined), "OTHER_MACHINE");
    assert_eq!(reason(&Asked { credential: by("worker-1", "k1"), ..worker() }, &known()), "OTHER_MACHINE", "removed");
}

#[test]
fn who_is_revoked_gets_nothing() {
    let revoked = MachineRecord { revoked: true, ..record("worker-1", Role::Worker, "k1", WORKER) };
    let known = Known { machines: vec![control_plane(), revoked], ..known() };
    let certificate = Credential::Certificate { node: "worker-1".to_owned(), key: "k1".to_owned() };
    assert_eq!(reason(&Asked { credential: certificate, ..worker() }, &known), "MACHINE_REVOKED");
    assert_eq!(reason(&worker(), &known), "MACHINE_REVOKED");
    assert_eq!(reason(&Asked { key: "k2".to_owned(), ..worker() }, &known), "NAME_TAKEN");
}

#[test]
fn addresses_are_proved_and_nobody_elses() {
    let asking = |addresses: &[&str], from: [u8; 4]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Asked { addresses, from: from.into(), ..worker() }
    };
    assert_eq!(reason(&asking(&["192.0.2.102"], WORKER), &known()), "ADDRESS_NOT_PROVED");
    assert_eq!(reason(&asking(&[], WORKER), &known()), "ADDRESS_NOT_PROVED");
    assert_eq!(reason(&asking(&["192.0.2.101", "192.0.2.102"], WORKER), &known()), "ADDRESS_UNFIT");
    assert_eq!(reason(&asking(&["10.244.3.4"], [10, 244, 3, 4]), &known()), "ADDRESS_UNFIT");
    assert_eq!(reason(&asking(&["127.0.0.1"], [127, 0, 0, 1]), &known()), "ADDRESS_UNFIT");
    // A control plane's address is its own, whoever calls from it.
    assert_eq!(reason(&asking(&["192.0.2.10"], [192, 0, 2, 10]), &known()), "ADDRESS_TAKEN");
    decide(&asking(&["192.0.2.101", "2001:db8::101"], WORKER), &known()).unwrap();

    let mut dual = record("worker-2", Role::Worker, "k2", [192, 0, 2, 102]);
    dual.addresses.push("2001:db8::101".parse().unwrap());
    let joined = Known { machines: vec![control_plane(), dual.clone()], ..known() };
    assert_eq!(reason(&asking(&["192.0.2.101", "2001:db8::101"], WORKER), &joined), "ADDRESS_TAKEN", "not proved, and another's");
    // A lease that went to another machine: the one that calls from the address has it.
    let grant = decide(&asking(&["192.0.2.102"], [192, 0, 2, 102]), &joined).unwrap();
    assert_eq!(grant.changed, [MachineRecord { addresses: vec!["2001:db8::101".parse().unwrap()], ..dual }]);
}
