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

/// The first control plane of a new cluster.
fn machine() -> Machine {
    let secrets = Secrets::generate(some_day()).unwrap();
    let document = generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(some_day())).unwrap().controlplane;
    let facts = Facts { root: Root::new("/"), node_name: "cp-1".to_owned(), node_ips: vec!["192.0.2.10".parse().unwrap()], emulated: None };
    Machine { config: Arc::new(Config::check(document, None).unwrap()), facts }
}

/// A machine's STATE and board as values.
struct Model {
    machine: Machine,
    now: SystemTime,
    present: Vec<(CertificateId, Present)>,
    issued: Vec<(CertificateId, Reason)>,
}

impl Model {
    fn new(machine: Machine) -> Model {
        Model { machine, now: some_day(), present: Vec::new(), issued: Vec::new() }
    }

    fn seen(&self) -> Seen {
        let specs = pki::certificates(&self.machine.config, &self.machine.facts);
        let present = |id| self.present.iter().find(|(known, _)| *known == id).map(|(_, present)| present.clone()).unwrap_or_default();
        let certificates = specs.into_iter().map(|spec| (spec.clone(), present(spec.id))).collect();
        Seen { machine: Ok(self.machine.clone()), clock_confirmed: true, waited: Duration::ZERO, now: self.now, certificates }
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Issue { spec, authority, key, now, because } => {
                let authority = Authority::from_pem(&authority.certificate, key.reveal()).unwrap();
                let pem = authority.issue(&spec.request, now).unwrap().certificate_pem;
                self.issued.push((spec.id, because));
                let told = self.present.iter().find(|(id, _)| *id == spec.id).and_then(|(_, present)| present.told.clone());
                self.set(spec.id, Present { certificate_pem: Some(pem), told });
            }
            Action::Tell { id, certificate } => {
                let pem = self.present.iter().find(|(known, _)| *known == id).and_then(|(_, present)| present.certificate_pem.clone());
                self.set(id, Present { certificate_pem: pem, told: Some(certificate) });
            }
        }
    }

    fn set(&mut self, id: CertificateId, present: Present) {
        self.present.retain(|(known, _)| *known != id);
        self.present.push((id, present));
    }

    /// Rounds until nothing is left to do; what was issued on the way.
    fn settle(&mut self) -> Vec<(CertificateId, Reason)> {
        self.issued.clear();
        for _ in 0..3 {
            match plan(&self.seen()) {
                Plan::Act(actions) => actions.into_iter().for_each(|action| self.apply(action)),
                Plan::Settled => return std::mem::take(&mut self.issued),
                Plan::Waiting(missing) => panic!("{missing:?}"),
            }
        }
        panic!("not settled after three rounds")
    }
}

#[test]
fn all_are_issued_once() {
    let mut model = Model::new(machine());
    let issued = model.settle();
    assert_eq!(issued.len(), CertificateId::ALL.len());
    assert!(issued.iter().all(|(_, reason)| *reason == Reason::Absent));
    assert_eq!(model.settle(), []);
}

#[test]
fn another_address_changes_the_servers_only() {
    let mut model = Model::new(machine());
    model.settle();
    model.machine.facts.node_ips = vec!["192.0.2.11".parse().unwrap()];
    let issued = model.settle();
    let ids: Vec<CertificateId> = issued.iter().map(|(id, _)| *id).collect();
    assert!(issued.iter().all(|(_, reason)| *reason == Reason::Renamed), "{issued:?}");
    assert!(ids.contains(&CertificateId::ApiServer) && ids.contains(&CertificateId::KubeletServer), "{ids:?}");
    assert!(!ids.contains(&CertificateId::Scheduler) && !ids.contains(&CertificateId::KubeletClient), "{ids:?}");
}

#[test]
fn renewed_in_time_and_not_before() {
    let mut model = Model::new(machine());
    model.settle();
    model.now += DAY * 240;
    assert_eq!(model.settle(), [], "two thirds of a year are 243 days");
    model.now += DAY * 42;
    let issued = model.settle();
    assert_eq!(issued.len(), CertificateId::ALL.len(), "two thirds and a tenth are 280 days");
    assert!(issued.iter().all(|(_, reason)| *reason == Reason::Due), "{issued:?}");
}

fn assert_all_unacceptable(issued: &[(CertificateId, Reason)]) {
    assert_eq!(issued.len(), CertificateId::ALL.len());
    assert!(issued.iter().all(|(_, reason)| matches!(reason, Reason::Unacceptable(_))), "{issued:?}");
}

#[test]
fn a_clock_that_was_ahead_and_another_authority_are_noticed() {
    let mut model = Model::new(machine());
    // By more than certificates are dated back.
    model.now += DAY * 40;
    model.settle();
    model.now -= DAY * 40;
    assert_all_unacceptable(&model.settle());

    model.machine = Machine { config: machine().config, facts: model.machine.facts.clone() };
    assert_all_unacceptable(&model.settle());
}

#[test]
fn without_the_authoritys_key_it_waits_and_says_for_what() {
    let keyless = changed(&machine(), |config| config.cluster.certificate_authorities.front_proxy.key = None);
    let mut model = Model::new(keyless);
    loop {
        match plan(&model.seen()) {
            Plan::Act(actions) => actions.into_iter().for_each(|action| model.apply(action)),
            Plan::Waiting(missing) => {
                assert_eq!(missing, [Missing::new("certificate front-proxy-client from a control plane (machinectl get joins)")]);
                break;
            }
            Plan::Settled => panic!("front-proxy-client is not there"),
        }
    }
    assert_eq!(model.present.len(), CertificateId::ALL.len() - 1);
}

#[test]
fn new_ones_wait_for_the_clock_but_not_for_ever() {
    let mut model = Model::new(machine());
    let unsure = |model: &Model, waited| plan(&Seen { clock_confirmed: false, waited, ..model.seen() });
    let waiting = unsure(&model, Duration::ZERO);
    assert!(matches!(waiting, Plan::Waiting(missing) if missing == [Missing::new("time from a time server")]));
    assert!(matches!(unsure(&model, PATIENCE), Plan::Act(_)));

    model.settle();
    assert!(matches!(unsure(&model, Duration::ZERO), Plan::Settled), "an agent that starts anew goes on with what is there");
}

#[test]
fn the_board_tells_what_users_ask_for() {
    let mut model = Model::new(machine());
    model.settle();
    let told =
        model.present.iter().find(|(id, _)| *id == CertificateId::KubeletClient).and_then(|(_, present)| present.told.clone()).unwrap();
    assert_eq!(told.subject, "system:node:cp-1");
    assert_eq!(told.organizations, ["system:nodes"]);
    assert_eq!(told.not_before, "2027-01-15T07:00:00Z");
    assert_eq!(told.not_after, "2028-01-15T08:00:00Z");
}

/// One authority takes another's place: nothing is issued before the new one issues, then what is its own, and then nothing again.
#[test]
fn what_an_authority_issued_is_issued_anew_once_another_takes_its_place() {
    let mut model = Model::new(machine());
    model.settle();
    let old = model.machine.config.cluster.certificate_authorities.etcd_peer.clone();
    let new = Authority::generate("etcd peers 2", some_day(), DAY * 3650).unwrap();
    let with = |model: &mut Model, first: &str, rest: &str, key: Option<Secret>| {
        let pair = CertificateAuthority { certificate: format!("{first}{rest}"), key };
        model.machine = changed(&model.machine, |config| config.cluster.certificate_authorities.etcd_peer = pair);
    };
    with(&mut model, &old.certificate, new.certificate_pem(), old.key.clone());
    assert_eq!(model.settle(), [], "accepted");

    with(&mut model, new.certificate_pem(), &old.certificate, old.key.clone());
    let missing = match plan(&model.seen()) {
        Plan::Waiting(missing) => missing,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing, [Missing::new("key of the new authority etcdPeer (machinectl get joins)")]);

    with(&mut model, new.certificate_pem(), &old.certificate, Some(new.key_pem()));
    let issued = model.settle();
    assert_eq!(issued.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [CertificateId::EtcdPeer]);
    assert_all_of(&issued, "is not signed by authority \"etcd peers 2\"");
    let told = model.present.iter().find(|(id, _)| *id == CertificateId::EtcdPeer).and_then(|(_, present)| present.told.clone()).unwrap();
    assert_eq!((told.authority.as_str(), Some(told.authority_fingerprint)), ("etcd peers 2", pki::fingerprint(new.certificate_pem()).ok()));

    with(&mut model, new.certificate_pem(), "", Some(new.key_pem()));
    assert_eq!(model.settle(), [], "the old one is gone");
}

fn assert_all_of(issued: &[(CertificateId, Reason)], words: &str) {
    assert!(issued.iter().all(|(_, reason)| reason.to_string().contains(words)), "{issued:?}");
}
