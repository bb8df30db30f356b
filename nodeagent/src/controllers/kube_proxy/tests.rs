use super::*;
use crate::controllers::fixtures::{changed, issued, machine, print, running, waits_for, with_ipv6};
use machine::config::{AddressPool, ProxyMode};

fn inputs(machine: Machine) -> Inputs {
    Inputs { machine: Ok(machine), certificate: Some(issued(CertificateId::KubeProxy)), node_known: true, known: false }
}

#[test]
fn goldens() {
    for case in ["worker", "full"] {
        let program = running(plan::want(&inputs(machine(case))).unwrap());
        crate::golden::check(&format!("src/controllers/kube_proxy/golden/{case}.txt"), &print(&program, &["kube-proxy.yaml"]));
    }
}

#[test]
fn with_ipv6_that_family_comes_first() {
    let text = print(&running(plan::want(&inputs(with_ipv6(&machine("worker")))).unwrap()), &["kube-proxy.yaml"]);
    assert!(text.contains("bindAddress: '::'") || text.contains("bindAddress: \"::\""), "{text}");
    assert!(text.contains("fd00:1::/56"), "{text}");
}

#[test]
fn with_pools_of_addresses_not_every_node_answers_for_them() {
    let text = |pools: &str| {
        let machine = changed(&machine("worker"), |config| {
            config.cluster.network.proxy.mode = ProxyMode::Ipvs;
            let addresses = pools.split_terminator(' ').map(|range| range.parse().unwrap()).collect::<Vec<_>>();
            config.cluster.network.load_balancer.pools =
                addresses.into_iter().map(|range| AddressPool { addresses: vec![range] }).collect();
        });
        print(&running(plan::want(&inputs(machine)).unwrap()), &["kube-proxy.yaml"])
    };
    assert!(text("192.0.2.100").contains("strictARP: true") && !text("").contains("strictARP"));
}

#[test]
fn mode_none_takes_it_away() {
    let machine = changed(&machine("worker"), |config| config.cluster.network.proxy.mode = ProxyMode::None);
    let want = plan::want(&Inputs { certificate: None, ..inputs(machine) }).unwrap();
    assert!(matches!(want, Want::Absent(id) if id.as_str() == ID));
}

#[test]
fn a_renewed_certificate_is_no_reason_to_restart() {
    let program = running(plan::want(&inputs(machine("worker"))).unwrap());
    let renewed = Inputs { certificate: Some(issued(CertificateId::Agent)), ..inputs(machine("worker")) };
    let renewed = running(plan::want(&renewed).unwrap());
    assert_eq!(renewed.spec, program.spec);
    assert_ne!(renewed.files, program.files);
}

#[test]
fn waits_for_its_node_unless_it_runs_already() {
    let early = || Inputs { node_known: false, certificate: None, ..inputs(machine("worker")) };
    assert_eq!(waits_for(&plan::want(&early()).unwrap()), ["certificate kube-proxy", "Node cp-1"]);
    assert_eq!(waits_for(&plan::want(&Inputs { known: true, ..early() }).unwrap()), ["certificate kube-proxy"]);
}
