use proptest::prelude::*;

use super::*;
use crate::controllers::fixtures::machine;

proptest! {
    #[test]
    fn applied_is_settled(loaded in proptest::collection::btree_set(proptest::sample::select(vec!["overlay", "ip_vs"]), 0..2), zero: bool) {
        let config = machine("full").config;
        let value = zero.then(|| "0\n".to_owned());
        let values = sysctls(&config).into_keys().map(|name| (name, value.clone())).collect();
        let mut seen = Seen { config: Some(config), loaded: loaded.into_iter().map(str::to_owned).collect(), values };
        if let Plan::Act(actions) = plan(&seen) {
            for action in actions.into_iter().flatten() {
                match action {
                    Action::Load(module) => drop(seen.loaded.insert(module.name)),
                    // As the kernel writes it back.
                    Action::Set { name, value } => drop(seen.values.insert(name, Some(format!("{value}\n")))),
                }
            }
        }
        prop_assert_eq!(plan(&seen), Plan::Settled);
    }
}

#[test]
fn the_users_parameters_and_values_count() {
    let config = machine("full").config;
    let ip_vs: Vec<KernelModule> = modules(&config).into_iter().filter(|module| module.name == "ip_vs").collect();
    assert_eq!(ip_vs, [KernelModule { name: "ip_vs".to_owned(), parameters: vec!["conn_tab_bits=15".to_owned()] }]);
    assert_eq!(sysctls(&config)["vm.max_map_count"], "262144");
    assert_eq!(sysctls(&config)["vm.overcommit_memory"], "1");
}

#[test]
fn ipv6_is_forwarded_only_where_pods_have_it() {
    let mut config = (*machine("worker").config).clone();
    assert!(!sysctls(&config).contains_key("net.ipv6.conf.all.forwarding"));
    config.cluster.network.pod_cidrs.push("fd00::/48".parse().unwrap());
    assert!(sysctls(&config).contains_key("net.ipv6.conf.all.forwarding"));
}

#[test]
fn several_numbers_are_compared_as_numbers() {
    let mut config = (*machine("worker").config).clone();
    config.machine.kernel.sysctls.insert("net.ipv4.ip_local_port_range".to_owned(), "32768 60999".to_owned());
    let mut values: BTreeMap<String, Option<String>> = sysctls(&config).into_iter().map(|(name, value)| (name, Some(value))).collect();
    values.insert("net.ipv4.ip_local_port_range".to_owned(), Some("32768\t60999\n".to_owned()));
    let loaded = modules(&config).into_iter().map(|module| module.name).collect();
    assert_eq!(plan(&Seen { config: Some(Arc::new(config)), loaded, values }), Plan::Settled);
}
