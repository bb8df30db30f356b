//! What is decided, from Services as the API server has them: goldens of allocation, and properties of both plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service as KubernetesService;
use machine::config::{AddressPool, LoadBalancer};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::allocate::{Share, allocate};
use super::announcer::tests as announcing;
use super::choose::{Nodes, choose};
use super::plan::{Action, Seen, plan};
use super::service::{Key, Service, Services, key};
use super::view::{Slice, State};
use crate::controllers::fixtures::{changed, machine};
use crate::plan::Plan;
use crate::resources::overlay::ClusterNode;

pub fn pools(ranges: &[&str]) -> LoadBalancer {
    let addresses: Vec<_> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    LoadBalancer { pools: if addresses.is_empty() { Vec::new() } else { vec![AddressPool { addresses }] } }
}

/// A Service as the API server shows it; `extra` is laid over it.
pub fn service(name: &str, spec: Value, status: Value, annotations: Value) -> (Key, Service) {
    let service: KubernetesService = serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-of-{name}"), "annotations": annotations,
            // The names of older ones come first.
            "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", name.bytes().last().unwrap_or_default() % 60),
            "managedFields": status["managedFields"],
        },
        "spec": spec,
        "status": status,
    }))
    .unwrap();
    (key(&service.metadata), Service::read(&service))
}

fn ipv4(name: &str) -> (Key, Service) {
    service(name, json!({ "ipFamilies": ["IPv4"] }), json!({}), json!({}))
}

/// A status with these addresses, written by this manager.
fn status(manager: &str, addresses: &[&str]) -> Value {
    let ingress: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address, "ipMode": "VIP" })).collect();
    json!({
        "loadBalancer": { "ingress": ingress },
        "managedFields": [{ "manager": manager, "operation": "Apply", "subresource": "status", "fieldsV1": { "f:status": { "f:loadBalancer": { "f:ingress": {} } } } }],
    })
}

fn shown(shares: &BTreeMap<Key, Share>) -> String {
    let mut text = String::new();
    for (key, Share { addresses, problem }) in shares {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let problem = if problem.is_empty() { String::new() } else { format!("  ({problem})") };
        writeln!(text, "  {key}: {}{problem}", addresses.join(", ")).unwrap();
    }
    text
}

/// A name, ranges of addresses, and Services.
type Case<'a> = (&'a str, &'a [&'a str], Vec<(Key, Service)>);

#[test]
fn allocation() {
    const OURS: &str = "corten-load-balancer";
    let v4 = || json!({ "ipFamilies": ["IPv4"] });
    let both = || json!({ "ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack" });
    let small: &[&str] = &["192.0.2.10-192.0.2.12", "2001:db8::/126"];
    let only_v4: &[&str] = &["192.0.2.10-192.0.2.12"];
    let cases: Vec<Case<'_>> = vec![
        ("the lowest free address of each family", small, vec![ipv4("a"), service("b", both(), json!({}), json!({}))]),
        ("what a Service has it keeps", small, vec![ipv4("a"), service("b", v4(), status(OURS, &["192.0.2.10"]), json!({}))]),
        (
            "of two that have the same the older keeps it",
            small,
            vec![
                service("a", v4(), status(OURS, &["192.0.2.12"]), json!({})),
                service("b", v4(), status(OURS, &["192.0.2.12"]), json!({})),
            ],
        ),
        ("an address that is in no pool any more is replaced", small, vec![service("a", v4(), status(OURS, &["198.51.100.1"]), json!({}))]),
        ("a node's address is not given away", &["192.0.2.1-192.0.2.2"], vec![ipv4("a")]),
        ("the pool is exhausted", &["192.0.2.10"], vec![ipv4("a"), ipv4("b")]),
        (
            "a family without a pool",
            only_v4,
            vec![service("a", both(), json!({}), json!({})), service("b", json!({ "ipFamilies": ["IPv6"] }), json!({}), json!({}))],
        ),
        (
            "who asks for an address comes before who takes any",
            only_v4,
            vec![
                ipv4("a"),
                service("b", json!({ "ipFamilies": ["IPv4"], "loadBalancerIP": "192.0.2.10" }), json!({}), json!({})),
                service("c", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "192.0.2.12" })),
            ],
        ),
        (
            "requests that cannot be met",
            only_v4,
            vec![
                service("a", v4(), status(OURS, &["192.0.2.11"]), json!({})),
                service("b", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "192.0.2.11" })),
                service("c", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "203.0.113.9" })),
                service("d", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "2001:db8::1" })),
                service("e", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "$(reboot)" })),
                service("f", v4(), json!({}), json!({ "corten.dev/load-balancer-ips": "192.0.2.10,192.0.2.12" })),
            ],
        ),
        (
            "one that asks for another address lets go of the one it has",
            only_v4,
            vec![service("a", v4(), status(OURS, &["192.0.2.10"]), json!({ "corten.dev/load-balancer-ips": "192.0.2.12" }))],
        ),
        (
            "of another class, and of another writer",
            only_v4,
            vec![
                service("a", json!({ "ipFamilies": ["IPv4"], "loadBalancerClass": "example.com/other" }), json!({}), json!({})),
                service("b", json!({ "ipFamilies": ["IPv4"], "loadBalancerClass": "corten.dev/link" }), json!({}), json!({})),
                service("c", v4(), status("metallb", &["192.0.2.11"]), json!({})),
                service("d", v4(), json!({ "loadBalancer": { "ingress": [{ "hostname": "lb.example.com" }] } }), json!({})),
                ipv4("e"),
            ],
        ),
        ("a Service that has no family yet", only_v4, vec![service("a", json!({}), json!({}), json!({}))]),
    ];
    let nodes = BTreeSet::from([IpAddr::from([192, 0, 2, 1])]);
    let mut text = String::new();
    for (name, ranges, services) in cases {
        let services: Services = services.into_iter().collect();
        let shares = allocate(&pools(ranges), &nodes, &services, false);
        writeln!(text, "{name}: {}\n{}", ranges.join(", "), shown(&shares)).unwrap();
        // Shares do not depend on the order in which they came about: those of the result are the same.
        let settled: Services = services
            .into_iter()
            .map(|(key, service)| match shares.get(&key).filter(|_| service.written_by.is_none()) {
                Some(share) => (key, Service { addresses: share.addresses.clone(), ..service }),
                None => (key, service),
            })
            .collect();
        assert_eq!(shown(&allocate(&pools(ranges), &nodes, &settled, false)), shown(&shares), "{name}");
    }
    crate::golden::check("src/controllers/load_balancer/golden/allocation.txt", &text);
}

#[test]
fn with_a_cloud_those_of_no_class_are_the_clouds() {
    let services: Services =
        [ipv4("a"), service("b", json!({ "ipFamilies": ["IPv4"], "loadBalancerClass": "corten.dev/link" }), json!({}), json!({}))].into();
    let shares = allocate(&pools(&["192.0.2.10"]), &BTreeSet::new(), &services, true);
    assert_eq!(shown(&shares), "  default/b: 192.0.2.10\n");
}

fn nodes(names: &[&str]) -> BTreeMap<String, ClusterNode> {
    let node = |last: usize| ClusterNode { ready: true, addresses: vec![IpAddr::from([192, 0, 2, last as u8])], ..ClusterNode::default() };
    names.iter().enumerate().map(|(index, name)| ((*name).to_owned(), node(index + 1))).collect()
}

fn answering(names: &[&str]) -> BTreeMap<String, bool> {
    names.iter().map(|name| ((*name).to_owned(), true)).collect()
}

#[test]
fn services_spread_over_nodes_and_move_only_from_one_that_goes() {
    let names = ["n1", "n2", "n3", "n4"];
    let (all, mut answers) = (nodes(&names), answering(&names));
    let mut services: Vec<Service> = (0..400).map(|number| Service { uid: format!("uid-{number}"), ..Service::default() }).collect();
    let address = [IpAddr::from([192, 0, 2, 100])];
    let chosen =
        |service: &Service, answers: &BTreeMap<String, bool>| choose(service, &address, Nodes { all: &all, answering: answers }, None);
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for service in &mut services {
        service.announcer = chosen(service, &answers);
        *count.entry(service.announcer.clone().unwrap()).or_default() += 1;
    }
    // A hundred each, give or take what chance gives: five standard deviations.
    assert!(count.len() == 4 && count.values().all(|count| (57..=143).contains(count)), "{count:?}");
    answers.insert("n2".to_owned(), false);
    let before: Vec<Option<String>> = services.iter().map(|service| service.announcer.clone()).collect();
    for service in &mut services {
        service.announcer = chosen(service, &answers);
    }
    for (service, before) in services.iter().zip(&before) {
        let moved = service.announcer != *before;
        assert_eq!(moved, before.as_deref() == Some("n2"), "{} {before:?} {:?}", service.uid, service.announcer);
    }
    // One that comes back breaks no connections.
    answers.insert("n2".to_owned(), true);
    assert!(services.iter().all(|service| chosen(service, &answers) == service.announcer));
}

#[test]
fn who_may_announce() {
    let mut all = nodes(&["n1", "n2", "n3"]);
    let address = [IpAddr::from([192, 0, 2, 100])];
    let some = |name: &str| Some(name.to_owned());
    let by = |name: &str| Service { announcer: some(name), ..Service::default() };
    let (known, everyone) = (answering(&["n2"]), BTreeSet::new());
    let choose_of =
        |service: &Service, all: &BTreeMap<String, ClusterNode>, answering: &BTreeMap<String, bool>, endpoints: &BTreeSet<String>| {
            choose(service, &address, Nodes { all, answering }, Some(endpoints))
        };
    // Nothing is known of the others yet: nobody is given to them, and none is taken from them.
    assert_eq!(choose_of(&Service::default(), &all, &known, &everyone), some("n2"));
    assert_eq!(choose_of(&by("n1"), &all, &known, &everyone), some("n1"));
    assert_eq!(choose_of(&by("n1"), &all, &BTreeMap::from([("n1".to_owned(), false), ("n2".to_owned(), true)]), &everyone), some("n2"));
    // Where nobody else can, it stays: but not one that is no node any more.
    assert_eq!(choose_of(&by("n1"), &all, &BTreeMap::from([("n1".to_owned(), false)]), &everyone), some("n1"));
    assert_eq!(choose_of(&by("n9"), &all, &BTreeMap::new(), &everyone), None);
    // Only where an endpoint is.
    let local = |by: Option<&str>| Service { local: true, announcer: by.map(str::to_owned), ..Service::default() };
    let everybody = answering(&["n1", "n2", "n3"]);
    assert_eq!(choose_of(&local(None), &all, &everybody, &BTreeSet::from(["n3".to_owned()])), some("n3"));
    assert_eq!(choose_of(&local(Some("n1")), &all, &everybody, &BTreeSet::from(["n3".to_owned()])), some("n3"));
    assert_eq!(choose_of(&local(Some("n1")), &all, &everybody, &everyone), None);
    // Before endpoints are known nothing moves.
    let nodes_of = Nodes { all: &all, answering: &everybody };
    assert_eq!(choose(&local(Some("n1")), &address, nodes_of, None), some("n1"));
    // Not ready, without an address of the family, left out by its label.
    all.get_mut("n1").unwrap().ready = false;
    all.get_mut("n2").unwrap().addresses = vec!["2001:db8::2".parse().unwrap()];
    assert_eq!(choose_of(&by("n1"), &all, &everybody, &everyone), some("n3"));
    let label = ("node.kubernetes.io/exclude-from-external-load-balancers".to_owned(), String::new());
    all.get_mut("n3").unwrap().labels.extend([label]);
    assert_eq!(choose_of(&by("n3"), &all, &everybody, &everyone), None);
}

#[test]
fn endpoints_that_end_count_while_there_are_no_others() {
    let key = |name: &str| Key { namespace: "default".to_owned(), name: name.to_owned() };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let slice = |ready, ending| Slice { service: key("web"), ready: names(ready), ending: names(ending) };
    let state = |slices: Vec<Slice>| State {
        slices: Arc::new(slices.into_iter().enumerate().map(|(index, slice)| (key(&format!("web-{index}")), slice)).collect()),
        listed: names(&["web", "empty"]),
        ..State::default()
    };
    assert_eq!(state(vec![slice(&["n1"], &["n1", "n2"]), slice(&["n3"], &[])]).endpoints(&key("web")), Some(names(&["n1", "n3"])));
    assert_eq!(state(vec![slice(&[], &["n2"]), slice(&[], &["n3"])]).endpoints(&key("web")), Some(names(&["n2", "n3"])));
    assert_eq!(state(vec![slice(&["n1"], &[])]).endpoints(&key("empty")), Some(names(&[])));
    assert_eq!(state(vec![slice(&["n1"], &[])]).endpoints(&key("not-listed")), None);
}

pub fn seen(ranges: &[&str], services: Services) -> Seen {
    let machine = changed(&machine("controlplane"), |config| config.cluster.network.load_balancer = pools(ranges));
    let names = ["n1", "n2", "n3"];
    let cluster = State { services: Some(Arc::new(services)), leads: true, answering: answering(&names), ..State::default() };
    Seen {
        machine: Ok(machine),
        may_write: true,
        leads: Some(true),
        nodes: nodes(&names),
        cluster,
        assigned: BTreeMap::new(),
        told: BTreeMap::new(),
    }
}

/// As the API server and the controller would have it after that.
fn apply(seen: &mut Seen, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Set { service, addresses, node, .. } => {
                let services = Arc::make_mut(seen.cluster.services.as_mut().unwrap());
                let service = services.get_mut(&service).unwrap();
                (service.addresses, service.announcer, service.plain) = (addresses, node, true);
            }
            Action::Clear { service, .. } => drop(seen.assigned.remove(&service)),
            Action::Tell { uid, problem, .. } if problem.is_empty() => drop(seen.told.remove(&uid)),
            Action::Tell { uid, problem, .. } => drop(seen.told.insert(uid, problem)),
            Action::Leave => seen.leads = None,
        }
    }
}

#[test]
fn who_does_not_lead_writes_nothing_and_who_may_not_go_on_leaves() {
    let services: Services = [ipv4("a")].into();
    assert_eq!(plan(&Seen { leads: Some(false), ..seen(&["192.0.2.10"], services.clone()) }), Plan::Settled);
    assert_eq!(plan(&seen(&[], services.clone())), Plan::Act(vec![vec![Action::Leave]]));
    assert_eq!(plan(&Seen { may_write: false, ..seen(&["192.0.2.10"], services.clone()) }), Plan::Act(vec![vec![Action::Leave]]));
    let worker = changed(&machine("worker"), |config| config.cluster.network.load_balancer = pools(&["192.0.2.10"]));
    assert_eq!(plan(&Seen { machine: Ok(worker), leads: None, ..seen(&[], services) }), Plan::Settled);
}

#[test]
fn one_that_became_of_another_type_is_cleared() {
    let mut seen = seen(&["192.0.2.10"], Services::new());
    let gone = Key { namespace: "default".to_owned(), name: "a".to_owned() };
    seen.assigned.insert(gone.clone(), "uid-of-a".to_owned());
    let Plan::Act(actions) = plan(&seen) else { panic!("nothing is done") };
    assert_eq!(actions, [[Action::Clear { service: gone, uid: "uid-of-a".to_owned() }]]);
    apply(&mut seen, actions.concat());
    assert_eq!(plan(&seen), Plan::Settled);
}

fn any_service() -> impl Strategy<Value = (Key, Service)> {
    let addresses = || proptest::sample::select(vec!["192.0.2.10", "192.0.2.11", "192.0.2.2", "2001:db8::1", "203.0.113.1", "x"]);
    let had = proptest::collection::vec(addresses(), 0..3);
    let families = proptest::sample::select(vec![json!(["IPv4"]), json!(["IPv6"]), json!(["IPv4", "IPv6"]), json!([])]);
    let manager = proptest::sample::select(vec!["corten-load-balancer", "metallb"]);
    let class = proptest::sample::select(vec![json!(null), json!("corten.dev/link"), json!("other")]);
    let asked = proptest::option::of(addresses());
    (0..6_u8, families, had, manager, class, asked).prop_map(|(name, families, had, manager, class, asked)| {
        let had: Vec<&str> = had.into_iter().filter(|address| *address != "x").collect();
        let status = if had.is_empty() { json!({}) } else { status(manager, &had) };
        let annotations = asked.map_or(json!({}), |asked| json!({ "corten.dev/load-balancer-ips": asked }));
        service(&format!("s{name}"), json!({ "ipFamilies": families, "loadBalancerClass": class }), status, annotations)
    })
}

proptest! {
    /// However Services look: what was applied is settled, no address is given twice, and what is others' is left alone.
    #[test]
    fn applied_is_settled(services in proptest::collection::vec(any_service(), 0..6)) {
        let before: Services = services.into_iter().collect();
        let mut seen = seen(&["192.0.2.10-192.0.2.11", "192.0.2.2", "2001:db8::/126"], before.clone());
        if let Plan::Act(actions) = plan(&seen) {
            apply(&mut seen, actions.concat());
        }
        prop_assert_eq!(plan(&seen), Plan::Settled);
        let after = seen.cluster.services.clone().unwrap();
        let mut given = BTreeSet::new();
        for (key, service) in after.iter() {
            if service.class.as_deref() == Some("other") || service.written_by.is_some() {
                prop_assert_eq!(service, &before[key]);
            } else {
                for address in &service.addresses {
                    prop_assert!(given.insert(*address), "{} twice", address);
                    prop_assert!(*address != IpAddr::from([192, 0, 2, 2]), "a node's");
                }
            }
        }
        announcing::applied_is_settled(&after);
    }
}
