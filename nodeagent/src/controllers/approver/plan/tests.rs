use std::time::Duration;

use controlplane::pki::{CertificateRequest, Usage, signing_request};
use machine::config::Role;

use super::*;

fn worker() -> MachineRecord {
    MachineRecord {
        version: 1,
        node: "worker-1".to_owned(),
        role: Role::Worker,
        key: "k".to_owned(),
        addresses: vec!["192.0.2.101".parse().unwrap()],
        token: "abcdef".to_owned(),
        joined_at: 1,
        revoked: false,
    }
}

fn request(common_name: &str, organization: &str, sans: &[&str]) -> String {
    let request = CertificateRequest {
        common_name: common_name.to_owned(),
        organization: Some(organization.to_owned()),
        sans: sans.iter().map(|san| san.parse().unwrap()).collect(),
        usage: Usage::Both,
        lifetime: Duration::from_secs(60),
    };
    signing_request(&request).unwrap().request_pem
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn client(user: &str, request: String) -> PendingRequest {
    let (groups, usages) = (texts(&["corten:agents", "system:authenticated"]), texts(&["digital signature", "client auth"]));
    PendingRequest { signer: CLIENT_SIGNER.to_owned(), user: user.to_owned(), groups, usages, request }
}

fn serving(user: &str, sans: &[&str]) -> PendingRequest {
    let (groups, usages) = (texts(&["system:nodes"]), texts(&["digital signature", "server auth"]));
    let request = request("system:node:worker-1", "system:nodes", sans);
    PendingRequest { signer: SERVING_SIGNER.to_owned(), user: user.to_owned(), groups, usages, request }
}

fn verdict(request: PendingRequest) -> Verdict {
    let machines = Machines::from([("worker-1".to_owned(), worker())]);
    match plan(&Seen { pending: BTreeMap::from([("csr".to_owned(), request)]), machines }) {
        Plan::Act(actions) => actions[0].verdict.clone(),
        other => panic!("{other:?}"),
    }
}

fn denied(request: PendingRequest, why: &str) {
    let verdict = verdict(request);
    assert!(matches!(&verdict, Verdict::Deny(words) if words.contains(why)), "{verdict:?} instead of {why}");
}

const AGENT: &str = "corten:agent:worker-1";
const KUBELET: &str = "system:node:worker-1";

#[test]
fn what_the_machine_proved_is_granted() {
    assert_eq!(verdict(client(AGENT, request(KUBELET, "system:nodes", &[]))), Verdict::Approve);
    assert_eq!(verdict(serving(KUBELET, &["worker-1", "localhost", "127.0.0.1", "::1", "192.0.2.101"])), Verdict::Approve);
}

#[test]
fn clients() {
    let good = || request(KUBELET, "system:nodes", &[]);
    denied(client("corten:agent:worker-2", good()), "no record that machine worker-2 joined");
    denied(client("system:serviceaccount:default:x", good()), "may not ask for it");
    denied(client(KUBELET, good()), "may not ask for it");
    denied(client(AGENT, request("system:node:cp-1", "system:nodes", &[])), "expected system:node:worker-1");
    denied(client(AGENT, request(KUBELET, "system:masters", &[])), "expected system:node:worker-1");
    denied(client(AGENT, request(KUBELET, "system:nodes", &["worker-1"])), "its client none");
    denied(client(AGENT, "nonsense".to_owned()), "signing request");
    denied(PendingRequest { groups: texts(&["system:nodes"]), ..client(AGENT, good()) }, "may not ask for it");
    denied(PendingRequest { usages: texts(&["client auth", "server auth"]), ..client(AGENT, good()) }, "usage server auth");
    denied(PendingRequest { signer: "kubernetes.io/kube-apiserver-client".to_owned(), ..client(AGENT, good()) }, "none of kubelets");
}

#[test]
fn servers() {
    denied(serving(KUBELET, &["worker-1", "192.0.2.10"]), "did not prove 192.0.2.10");
    denied(serving(KUBELET, &["cp-1"]), "did not prove cp-1");
    denied(serving(KUBELET, &[]), "has names");
    denied(serving(AGENT, &["worker-1"]), "may not ask for it");
}

#[test]
fn a_revoked_machine_gets_none() {
    let machines = Machines::from([("worker-1".to_owned(), MachineRecord { revoked: true, ..worker() })]);
    let pending = BTreeMap::from([("csr".to_owned(), client(AGENT, request(KUBELET, "system:nodes", &[])))]);
    let Plan::Act(actions) = plan(&Seen { pending, machines }) else { panic!("no plan") };
    assert_eq!(actions[0].verdict, Verdict::Deny("machine worker-1 is revoked".to_owned()));
}
