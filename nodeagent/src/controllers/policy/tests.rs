//! The compiler against a reference that reads policies as the API's words say, the kernel against the compiler, and packets between pods.

mod cases;
mod connections;
mod figures;
mod kernel;
mod lab;
mod reference;
mod world;

use proptest::prelude::*;

use super::compile::compile;
use super::plan::{Action, Kernel, Seen, plan};
use super::render;
use super::table::Flow;
use super::*;
use world::{World, own};

/// All that there is to decide in a world, one by one.
fn flows(world: &World) -> Vec<Flow> {
    let addresses = world.addresses();
    let mut flows = Vec::new();
    for from in &addresses {
        for to in addresses.iter().filter(|to| to.is_ipv6() == from.is_ipv6()) {
            for (protocol, port) in [(6, 80), (6, 8080), (6, 81), (17, 53), (17, 80), (132, 80), (1, 0)] {
                flows.push(Flow { from: *from, to: *to, protocol, port });
            }
        }
    }
    flows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_table_decides_as_the_words_of_the_api_say(world in world::any()) {
        let compiled = compile(&world.cluster(), &own());
        for flow in flows(&world) {
            let expected = reference::allows(&world, &own(), flow);
            prop_assert_eq!(compiled.table.allows(flow), expected, "{:?}\n{}", flow, world);
        }
    }

    #[test]
    fn a_plan_that_was_applied_is_settled(before in world::any(), after in world::any()) {
        let [before, after] = [before, after].map(|world| Arc::new(compile(&world.cluster(), &own())));
        let seen = |kernel, told| Seen {
            network: Some(machine::config::ClusterNetwork::default()), wanted: Ok(after.clone()), kernel, uncut: false, told,
        };
        let mut kernel = if before.told.is_empty() { Kernel::Nothing } else { Kernel::Table(before) };
        if let Plan::Act(actions) = plan(&seen(kernel.clone(), false)) {
            for action in actions {
                match action {
                    Action::Remove => kernel = Kernel::Nothing,
                    Action::Load { result, .. } => kernel = Kernel::Table(result),
                    Action::Cut(_) | Action::Tell(_) => {}
                }
            }
        }
        prop_assert!(matches!(plan(&seen(kernel, true)), Plan::Settled));
    }

    /// A connection that was allowed and is not any more is looked for.
    #[test]
    fn what_forbids_more_is_known_as_such(before in world::any(), after in world::any()) {
        let [was, is] = [&before, &after].map(|world| compile(&world.cluster(), &own()).table);
        let forbids = flows(&before).into_iter().any(|flow| was.allows(flow) && !is.allows(flow) && is.known.contains(&flow.to));
        prop_assert!(!forbids || is.may_forbid_more_than(&was));
    }
}

#[test]
fn nothing_is_touched_before_all_is_known() {
    let seen = |wanted, network: machine::config::ClusterNetwork, kernel| Seen {
        network: Some(network),
        wanted,
        kernel,
        uncut: false,
        told: true,
    };
    let network = machine::config::ClusterNetwork::default;
    let unknown = || Err(vec![Missing::new("pods of the cluster")]);
    assert!(matches!(plan(&seen(unknown(), network(), Kernel::Unknown)), Plan::Waiting(_)));
    let brought = machine::config::ClusterNetwork { cni: machine::config::Cni::None, ..network() };
    let Plan::Act(actions) = plan(&seen(unknown(), brought.clone(), Kernel::Unknown)) else { panic!() };
    assert!(matches!(actions.as_slice(), [Action::Remove]), "{actions:?}");
    assert!(matches!(plan(&seen(unknown(), brought, Kernel::Nothing)), Plan::Settled));
    assert!(matches!(plan(&seen(Ok(Arc::default()), network(), Kernel::Nothing)), Plan::Settled), "no policies, no table");
}

#[test]
fn a_table_in_nfts_words() {
    let compiled = compile(&world::example().cluster(), &own());
    crate::golden::check("src/controllers/policy/golden/table.nft", &render::whole(&compiled.table));
    let mut other = world::example();
    other.pods.retain(|pod| pod.metadata.name.as_deref() != Some("far"));
    other.policies.remove(0);
    let other = compile(&other.cluster(), &own());
    crate::golden::check("src/controllers/policy/golden/change.nft", &render::change(&compiled.table, &other.table).unwrap());
    assert_eq!(render::change(&compiled.table, &compiled.table).unwrap(), "");
}

#[test]
fn what_is_not_understood_allows_nothing_and_is_told_of() {
    let mut world = world::example();
    world.policies = vec![world::policy(
        "shop",
        "odd",
        &r#"{ "podSelector": {}, "ingress": [
            { "from": [{ "ipBlock": { "cidr": "LONG" } }] },
            { "ports": [{ "protocol": "GRE" }] },
            { "ports": [{ "port": 0 }, { "port": 80, "endPort": 79 }] },
            { "from": [{}] },
            { "from": [{ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Like" }] } }] },
            { "from": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }] }
        ] }"#
            .replace("LONG", &"x".repeat(200_000)),
    )];
    let compiled = compile(&world.cluster(), &own());
    let told = &compiled.told["shop/odd"];
    assert_eq!(told.state, crate::resources::policy::PolicyState::Refused);
    for field in [
        "spec.ingress[0].peers[0].ipBlock",
        "spec.ingress[1].ports[0].protocol",
        "spec.ingress[2].ports[0].port",
        "spec.ingress[3].peers[0]",
        "spec.ingress[4].peers[0].matchExpressions",
    ] {
        assert!(told.message.contains(field), "{field}: {}", told.message);
    }
    assert!(told.message.len() < 1000, "{}", told.message.len());
    let to = "10.244.1.2".parse().unwrap();
    let flow = |from: &str| Flow { from: from.parse().unwrap(), to, protocol: 6, port: 80 };
    assert!(compiled.table.allows(flow("192.0.2.9")), "the rule that is understood counts");
    assert!(!compiled.table.allows(flow("10.244.2.2")));
}

/// Names that could be words of nft are never written there.
#[test]
fn nothing_that_users_write_gets_into_commands() {
    let hostile = "}; flush ruleset; add table inet x { #";
    let mut world = world::example();
    let text = serde_json::to_string(&world.policies).unwrap().replace("\"web\"", &serde_json::to_string(hostile).unwrap());
    world.policies = serde_json::from_str(&text).unwrap();
    let text = serde_json::to_string(&world.pods).unwrap().replace("\"web\"", &serde_json::to_string(hostile).unwrap());
    world.pods = serde_json::from_str(&text).unwrap();
    assert!(world.to_string().contains("flush ruleset"));
    let commands = render::whole(&compile(&world.cluster(), &own()).table);
    assert!(!commands.contains("ruleset"), "{commands}");
}
