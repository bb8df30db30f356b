use machine::config::TaintEffect;
use proptest::prelude::*;

use super::*;
use crate::controllers::fixtures::{changed, machine};

/// A Node as the kubelet registers it.
fn registered(machine: &Machine) -> Seen {
    let mut status = NodeStatus { taints: kubelet::taints(&machine.config), ..NodeStatus::default() };
    status.taints.push(taint("node.kubernetes.io/not-ready", TaintEffect::NoSchedule));
    status.labels.insert("kubernetes.io/hostname".to_owned(), "cp-1".to_owned());
    Seen { machine: Ok(machine.clone()), status: Some(status), api_server_ready: true }
}

fn taint(key: &str, effect: TaintEffect) -> Taint {
    Taint { key: key.to_owned(), value: String::new(), effect }
}

/// As the API server carries actions out.
fn apply(seen: &mut Seen) -> usize {
    let Plan::Act(actions) = plan(seen) else { return 0 };
    let status = seen.status.as_mut().unwrap();
    let count = actions.len();
    for action in actions {
        match action {
            Action::SetTaints { taints, .. } => status.taints = taints,
            Action::Apply { labels, owned_taints, .. } => {
                status.labels.retain(|name, _| !status.owned_labels.contains(name));
                status.owned_labels = labels.keys().cloned().collect();
                status.labels.extend(labels);
                status.owned_taints = owned_taints;
            }
        }
    }
    count
}

proptest! {
    #[test]
    fn applied_is_settled(steps in proptest::collection::vec((0..3_usize, any::<bool>(), proptest::option::of("[ab]")), 1..5)) {
        let mut seen = registered(&machine("controlplane"));
        for (taints, open, label) in steps {
            let machine = changed(&machine("controlplane"), |config| {
                config.cluster.allow_scheduling_on_control_planes = open;
                config.machine.kubelet.taints = (0..taints).map(|index| taint(&format!("example.com/{index}"), TaintEffect::NoExecute)).collect();
                config.machine.kubelet.labels = label.into_iter().map(|label| (label, "x".to_owned())).collect();
            });
            let ours = kubelet::taints(&machine.config);
            seen.machine = Ok(machine);
            apply(&mut seen);
            prop_assert_eq!(plan(&seen), Plan::Settled);
            let status = seen.status.as_ref().unwrap();
            prop_assert_eq!(status.taints.len(), ours.len() + 1, "ours, and not-ready, which is another's");
            prop_assert!(status.labels.contains_key("kubernetes.io/hostname"));
        }
    }
}

#[test]
fn a_removed_label_goes() {
    let labelled = |label: &str| {
        changed(&machine("controlplane"), |config| {
            config.machine.kubelet.labels = BTreeMap::from([(label.to_owned(), String::new())]);
        })
    };
    let mut seen = registered(&labelled("a"));
    assert_eq!(apply(&mut seen), 1);
    seen.machine = Ok(labelled("b"));
    apply(&mut seen);
    let labels = &seen.status.as_ref().unwrap().labels;
    assert!(!labels.contains_key("a") && labels.contains_key("b") && labels.contains_key(kubelet::CONTROL_PLANE), "{labels:?}");
}

#[test]
fn a_worker_labels_itself_and_says_that_taints_need_somebody_else() {
    let mut seen = registered(&machine("worker"));
    apply(&mut seen);
    assert_eq!(plan(&seen), Plan::Settled);
    seen.machine =
        Ok(changed(&machine("worker"), |config| config.machine.kubelet.taints.push(taint("example.com/new", TaintEffect::NoSchedule))));
    assert!(matches!(plan(&seen), Plan::Waiting(missing) if missing[0].to_string().contains("machine.kubelet.taints")));
}

#[test]
fn waits_for_the_kubelet_to_register() {
    let mut seen = registered(&machine("worker"));
    seen.status = None;
    assert_eq!(plan(&seen), Plan::Waiting(vec![Missing::new("Node cp-1")]));
}
