use std::sync::Arc;

use controlplane::Facts;
use controlplane::generate::{Options, generate};
use controlplane::pki::Authority;
use controlplane::secrets::Secrets;
use machine::Root;
use machine::config::Config;

use super::*;
use crate::controllers::fixtures::changed;

const DAY: Duration = Duration::from_secs(86_400);

/// Some day, in whole seconds as certificates have them.
fn some_day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A machine that joins, and the cluster that grants all it asks for, as values.
struct Model {
    secrets: Secrets,
    machine: Machine,
    now: SystemTime,
    present: Vec<(CertificateId, Present)>,
    told: Option<JoinStatus>,
}

impl Model {
    fn new(pick: fn(controlplane::generate::GeneratedConfigs) -> machine::config::Document) -> Model {
        let secrets = Secrets::generate(some_day() - DAY * 60).unwrap();
        let document = pick(generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(some_day())).unwrap());
        let facts =
            Facts { root: Root::new("/"), node_name: "m-1".to_owned(), node_ips: vec!["192.0.2.101".parse().unwrap()], emulated: None };
        let machine = Machine { config: Arc::new(Config::check(document, None).unwrap()), facts };
        Model { secrets, machine, now: some_day(), present: Vec::new(), told: None }
    }

    fn seen(&self) -> Seen {
        let specs = pki::certificates(&self.machine.config, &self.machine.facts);
        let present = |id| self.present.iter().find(|(known, _)| *known == id).map(|(_, present)| present.clone()).unwrap_or_default();
        Seen {
            machine: Ok(self.machine.clone()),
            clock_confirmed: true,
            waited: Duration::ZERO,
            now: self.now,
            certificates: specs.into_iter().map(|spec| (spec.clone(), present(spec.id))).collect(),
            api_server_ready: true,
            told: self.told.clone(),
            pause: None,
        }
    }

    fn issue(&mut self, spec: &CertificateSpec) {
        let authority = spec.authority.of(&self.secrets.certificate_authorities);
        let authority = Authority::from_pem(&authority.certificate, authority.key.as_ref().unwrap().reveal()).unwrap();
        let pem = authority.issue(&spec.request, self.now).unwrap().certificate_pem;
        self.present.retain(|(id, _)| *id != spec.id);
        self.present.push((spec.id, Present { certificate_pem: Some(pem), told: None }));
    }

    fn apply(&mut self, action: &Action) {
        match action {
            Action::Ask { specs, .. } => specs.iter().for_each(|spec| self.issue(spec)),
            Action::Certify(spec) => self.issue(spec),
            Action::FetchKeys => {
                let authorities = self.secrets.certificate_authorities.clone();
                self.machine = changed(&self.machine, |config| config.cluster.certificate_authorities = authorities);
                self.told = Some(JoinStatus::default());
            }
            Action::Settle => self.told = Some(JoinStatus { state: JoinState::Joined, ..JoinStatus::default() }),
        }
    }

    /// Rounds until nothing is left to do; what was done on the way.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..8 {
            match plan(&self.seen()) {
                Plan::Act(actions) => actions.into_iter().for_each(|action| {
                    self.apply(&action);
                    done.push(action.to_string());
                }),
                Plan::Settled => return done,
                Plan::Waiting(missing) => panic!("{missing:?}"),
            }
        }
        panic!("not settled: {done:?}")
    }
}

#[test]
fn a_worker_asks_its_control_plane_and_then_the_cluster() {
    let mut model = Model::new(|configs| configs.worker);
    let steps =
        ["certificates machine, kube-proxy, agent by the join token", "certificate kubelet-client", "certificate kubelet-server", "joined"];
    assert_eq!(model.settle(), steps);
    assert_eq!(model.settle(), Vec::<String>::new());
}

#[test]
fn a_control_plane_gets_the_keys_and_issues_the_rest_itself() {
    let mut model = Model::new(|configs| configs.controlplane_join);
    assert_eq!(model.settle(), ["certificates machine by the join token", "the authorities' keys", "joined"]);
}

#[test]
fn the_one_that_makes_the_cluster_joins_nobody() {
    let mut model = Model::new(|configs| configs.controlplane);
    assert_eq!(model.settle(), Vec::<String>::new());
    assert_eq!(model.told, None);
}

#[test]
fn what_comes_due_is_renewed_by_the_certificate_and_what_ended_by_the_token() {
    let mut model = Model::new(|configs| configs.worker);
    model.settle();
    model.now += DAY * 290;
    let renewed = model.settle();
    assert_eq!(renewed[0], "certificates machine, kube-proxy, agent by the machine's certificate");
    assert_eq!(renewed.len(), 3, "{renewed:?}");
    model.now += DAY * 400;
    assert_eq!(model.settle()[0], "certificates machine, kube-proxy, agent by the join token");
}

#[test]
fn another_address_is_told_by_the_certificate_and_another_name_by_the_token() {
    let mut model = Model::new(|configs| configs.worker);
    model.settle();
    model.machine.facts.node_ips = vec!["192.0.2.102".parse().unwrap()];
    assert_eq!(model.settle(), ["certificates machine by the machine's certificate", "certificate kubelet-server"]);
    model.machine.facts.node_name = "m-2".to_owned();
    assert_eq!(model.settle()[0], "certificates machine, agent by the join token");
}

fn waits_for(seen: &Seen) -> String {
    match plan(seen) {
        Plan::Waiting(missing) => missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => panic!("{other:?}"),
    }
}

#[test]
fn waits_are_told() {
    let model = Model::new(|configs| configs.worker);
    assert_eq!(waits_for(&Seen { clock_confirmed: false, ..model.seen() }), "time from a time server");
    assert!(matches!(plan(&Seen { clock_confirmed: false, waited: PATIENCE, ..model.seen() }), Plan::Act(_)));
    let pause = Some(Pause { message: "the join token is wrong".to_owned() });
    assert_eq!(waits_for(&Seen { pause, ..model.seen() }), "a control plane to join through: the join token is wrong");
}

#[test]
fn the_kubelets_certificates_wait_for_the_api_server() {
    let mut model = Model::new(|configs| configs.worker);
    let Plan::Act(actions) = plan(&model.seen()) else { panic!("asks") };
    model.apply(&actions[0]);
    assert_eq!(waits_for(&Seen { api_server_ready: false, ..model.seen() }), "API server");
}

/// The cluster's clock is right and this machine's is far behind: what it gets is good, though not yet by its own clock.
#[test]
fn a_clock_that_is_behind_is_named_with_both_times() {
    let mut model = Model::new(|configs| configs.worker);
    model.settle();
    model.now -= DAY * 31;
    let told = waits_for(&model.seen());
    assert!(told.starts_with("the right time: this machine's clock says 2026-12-15T08:00:00Z, and certificate "), "{told}");
    assert!(told.ends_with("is valid from 2026-12-16T08:00:00Z"), "{told}");
}

/// The kubernetes authority is followed by another, which issues; the old one is still accepted.
fn succeeded(model: &mut Model, id: AuthorityId) {
    let old = id.of(&model.secrets.certificate_authorities).certificate.clone();
    let new = Authority::generate("another", some_day() - DAY, DAY * 3650).unwrap();
    let certificate = format!("{}{old}", new.certificate_pem());
    *id.of_mut(&mut model.secrets.certificate_authorities) =
        machine::config::CertificateAuthority { certificate: certificate.clone(), key: Some(new.key_pem()) };
    model.machine = changed(&model.machine, |config| id.of_mut(&mut config.cluster.certificate_authorities).certificate = certificate);
}

#[test]
fn a_worker_asks_for_certificates_of_the_authority_that_follows() {
    let mut model = Model::new(|configs| configs.worker);
    model.settle();
    succeeded(&mut model, AuthorityId::Machine);
    assert_eq!(model.settle(), ["certificates machine by the machine's certificate"]);
    succeeded(&mut model, AuthorityId::Kubelet);
    assert_eq!(model.settle(), ["certificate kubelet-server"]);
    succeeded(&mut model, AuthorityId::Kubernetes);
    assert_eq!(model.settle(), ["certificates machine, kube-proxy, agent by the machine's certificate", "certificate kubelet-client"]);
}

#[test]
fn a_control_plane_gets_the_key_of_the_authority_that_follows() {
    let mut model = Model::new(|configs| configs.controlplane_join);
    model.settle();
    succeeded(&mut model, AuthorityId::EtcdPeer);
    assert_eq!(model.settle(), ["the authorities' keys", "joined"]);
}
