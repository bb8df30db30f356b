use machine::config::CloudProvider;

use super::*;
use crate::controllers::fixtures::{changed, machine, print, running, waits_for, with_ipv6};

fn inputs(machine: Machine) -> Inputs {
    let fingerprint = |id| (id, Some("AB:CD".to_owned()));
    Inputs {
        machine: Ok(machine),
        ephemeral_open: true,
        is_of_a_cloud: false,
        provider_id: None,
        certificates: [CertificateId::KubeletClient, CertificateId::KubeletServer].map(fingerprint).to_vec(),
        api_server_listens: true,
        known: false,
        waited: Duration::ZERO,
    }
}

#[test]
fn goldens() {
    for case in ["controlplane", "worker", "full"] {
        let program = running(plan::want(&inputs(machine(case))).unwrap());
        let text = print(&program, &["kubelet.yaml"]);
        crate::golden::check(&format!("src/controllers/kubelet/golden/{case}.txt"), &text);
    }
}

#[test]
fn a_machine_of_a_cloud_says_which_one_it_is() {
    let external = || changed(&machine("worker"), |config| config.cluster.cloud_provider = CloudProvider::External);
    let unknown = Inputs { is_of_a_cloud: true, ..inputs(external()) };
    assert_eq!(waits_for(&plan::want(&unknown).unwrap()), ["instance identity (machinectl get controllers cloud)"]);
    let known = Inputs { provider_id: Some("aws:///eu-central-1a/i-1".to_owned()), ..unknown };
    let text = print(&running(plan::want(&known).unwrap()), &["kubelet.yaml"]);
    crate::golden::check("src/controllers/kubelet/golden/cloud.txt", &text);
    // Outside of the clouds somebody else knows it, or the cloud's controller finds it by its name.
    let text = print(&running(plan::want(&inputs(external())).unwrap()), &["kubelet.yaml"]);
    assert!(text.contains("--cloud-provider=external") && !text.contains("providerID"), "{text}");
    let said = changed(&external(), |config| {
        config.machine.kubelet.config.insert("providerID".to_owned(), "corten:///1".into());
    });
    let text =
        print(&running(plan::want(&Inputs { provider_id: Some("aws:///a/b".to_owned()), ..inputs(said) }).unwrap()), &["kubelet.yaml"]);
    assert!(text.contains("providerID: corten:///1"), "{text}");
}

#[test]
fn what_corten_owns_is_not_the_users() {
    let machine = changed(&machine("worker"), |config| {
        let user = serde_json::json!({
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "cacheTTL": "5m0s" } },
            "staticPodPath": "/tmp",
            "maxPods": 7,
        });
        config.machine.kubelet.config = user.as_object().unwrap().clone();
    });
    let program = running(plan::want(&inputs(machine)).unwrap());
    let text = print(&program, &["kubelet.yaml"]);
    for line in ["enabled: false", "cacheTTL: 5m0s", "maxPods: 7", "staticPodPath: /etc/kubernetes/manifests"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn with_ipv6_it_listens_there() {
    let text = print(&running(plan::want(&inputs(with_ipv6(&machine("worker")))).unwrap()), &["kubelet.yaml"]);
    for line in ["address: '::'", "fd00:2::a", "--node-ip=2001:db8::10"] {
        assert!(text.contains(line) || text.contains(&line.replace('\'', "\"")), "{line} is not in\n{text}");
    }
}

#[test]
fn names_all_that_is_missing() {
    let absent = Inputs { ephemeral_open: false, certificates: vec![(CertificateId::KubeletClient, None)], ..inputs(machine("worker")) };
    assert_eq!(waits_for(&plan::want(&absent).unwrap()), ["volume ephemeral", "certificate kubelet-client"]);
    let unnamed = Inputs { machine: Err(vec![Missing::new("hostname")]), ..inputs(machine("worker")) };
    assert_eq!(waits_for(&plan::want(&unnamed).unwrap()), ["hostname"]);
}

#[test]
fn on_a_control_plane_the_api_server_goes_first_but_not_for_ever() {
    let early = || Inputs { api_server_listens: false, ..inputs(machine("controlplane")) };
    assert_eq!(waits_for(&plan::want(&early()).unwrap()), ["API server"]);
    running(plan::want(&Inputs { waited: Duration::from_secs(121), ..early() }).unwrap());
    running(plan::want(&Inputs { known: true, ..early() }).unwrap());
    running(plan::want(&Inputs { api_server_listens: false, ..inputs(machine("worker")) }).unwrap());
}

#[test]
fn a_renewed_certificate_is_no_reason_to_restart() {
    let program = running(plan::want(&inputs(machine("worker"))).unwrap());
    let mut renewed = inputs(machine("worker"));
    renewed.certificates[0].1 = Some("EF:01".to_owned());
    assert_eq!(running(plan::want(&renewed).unwrap()).spec, program.spec);
}

#[test]
fn control_planes_are_closed_to_ordinary_pods_unless_opened() {
    let closed = taints(&machine("controlplane").config);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].key, CONTROL_PLANE);
    assert!(taints(&machine("single-node").config).is_empty());
    assert!(taints(&machine("worker").config).iter().all(|taint| taint.key != CONTROL_PLANE));
}
