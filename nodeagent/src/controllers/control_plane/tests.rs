use machine::service::ServiceSpec;
use machine::version::Minor;

use super::*;
use crate::controllers::fixtures::{changed, issued, machine, running, waits_for};

fn inputs<C: Component>(machine: Machine) -> Inputs {
    // The examples hold no real keys, and the API server's rendering reads this one.
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let machine = changed(&machine, |config| config.cluster.service_account_key = Some(machine::config::Secret::new(key)));
    Inputs {
        machine: Ok(machine),
        ephemeral_open: true,
        has_etcd: true,
        etcd_changes: false,
        api_server_ready: true,
        known: false,
        issued: C::CERTIFICATES.iter().map(|id| (*id, issued(*id))).collect(),
    }
}

fn want<C: Component>(inputs: &Inputs) -> Want {
    ControlPlane::<C>::want(inputs).unwrap()
}

#[test]
fn the_api_server_starts_before_the_others() {
    let early = |mut inputs: Inputs| {
        inputs.api_server_ready = false;
        inputs
    };
    running(want::<KubeApiserver>(&early(inputs::<KubeApiserver>(machine("controlplane")))));
    let waiting = want::<KubeControllerManager>(&early(inputs::<KubeControllerManager>(machine("controlplane"))));
    assert_eq!(waits_for(&waiting), ["API server"]);
    let waiting = want::<KubeScheduler>(&early(inputs::<KubeScheduler>(machine("controlplane"))));
    assert_eq!(waits_for(&waiting), ["API server"]);
    running(want::<KubeScheduler>(&Inputs { known: true, ..early(inputs::<KubeScheduler>(machine("controlplane"))) }));
}

#[test]
fn what_runs_is_left_alone_while_something_is_missing() {
    let before =
        Inputs { has_etcd: false, ephemeral_open: false, issued: BTreeMap::new(), ..inputs::<KubeScheduler>(machine("controlplane")) };
    assert_eq!(
        waits_for(&want::<KubeScheduler>(&before)),
        ["volume ephemeral", "bootstrap of the cluster, or a vote in etcd", "certificate kube-scheduler"]
    );
}

#[test]
fn workers_have_none() {
    assert!(matches!(want::<KubeApiserver>(&inputs::<KubeApiserver>(machine("worker"))), Want::Absent(id) if id.as_str() == API_SERVER));
}

/// The certificates that a component lists are all that its rendering asks for.
#[test]
fn every_component_renders() {
    running(want::<KubeApiserver>(&inputs::<KubeApiserver>(machine("full"))));
    running(want::<KubeControllerManager>(&inputs::<KubeControllerManager>(machine("full"))));
    running(want::<KubeScheduler>(&inputs::<KubeScheduler>(machine("full"))));
}

/// All three follow one version, and nothing else of them changes: the end of the trial restarts them, and only them.
#[test]
fn an_image_on_trial_behaves_as_the_one_before() {
    fn changed_arguments<C: Component>() -> Vec<String> {
        let version = Minor { major: 1, minor: 36 };
        let free = inputs::<C>(machine("controlplane"));
        let machine = free.machine.clone().map(|machine| machine.emulating(Some(version)));
        let held = Inputs { machine, issued: free.issued.clone(), ..inputs::<C>(self::machine("controlplane")) };
        let (free, held) = (running(want::<C>(&free)), running(want::<C>(&held)));
        let args = held.spec.args.iter().filter(|arg| !free.spec.args.contains(arg)).cloned().collect();
        assert_eq!(ServiceSpec { args: free.spec.args.clone(), ..held.spec }, free.spec);
        assert_eq!(held.files, free.files);
        args
    }
    for args in [changed_arguments::<KubeApiserver>(), changed_arguments::<KubeControllerManager>(), changed_arguments::<KubeScheduler>()] {
        assert_eq!(args, ["--emulated-version=1.36"]);
    }
}
