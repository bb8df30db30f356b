use std::sync::Arc;

use controlplane::Facts;
use controlplane::generate::{Options, generate};
use controlplane::pki::{Authority, CertificateRequest, Usage};
use controlplane::secrets::Secrets;
use machine::Root;
use machine::config::Config;

use super::super::listeners::listeners;
use super::*;
use crate::controllers::fixtures::changed;

const DAY: Duration = Duration::from_secs(86_400);

/// A control plane on which all has followed, with an old and a new authority of the kind that is looked at.
struct Model {
    machine: Machine,
    old: Authority,
    new: Authority,
    told: BTreeMap<String, AuthorityStatus>,
    looked: Looked,
    now: SystemTime,
}

/// Which of the two are in the config, and whose key.
#[derive(Clone, Copy)]
enum Chain {
    Old,
    OldNew,
    NewOld,
    NewOldWithoutKey,
    New,
}

const ID: AuthorityId = AuthorityId::Kubernetes;

impl Model {
    fn new() -> Model {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut secrets = Secrets::generate(now - DAY * 60).unwrap();
        let [old, new] = [("Kubernetes", now - DAY * 50), ("Kubernetes 2", now - DAY * 5)]
            .map(|(name, begin)| Authority::generate(name, begin, DAY * 3650).unwrap());
        secrets.certificate_authorities.kubernetes =
            CertificateAuthority { certificate: old.certificate_pem().to_owned(), key: Some(old.key_pem()) };
        let document = generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(now)).unwrap().controlplane;
        let facts =
            Facts { root: Root::new("/"), node_name: "cp-1".to_owned(), node_ips: vec!["192.0.2.10".parse().unwrap()], emulated: None };
        let machine = Machine { config: Arc::new(Config::check(document, None).unwrap()), facts };
        Model { machine, old, new, told: BTreeMap::new(), looked: Looked::default(), now }
    }

    fn set(&mut self, config: Chain) {
        let (old, new) = (&self.old, &self.new);
        let (chain, key) = match config {
            Chain::Old => (vec![old], old),
            Chain::OldNew => (vec![old, new], old),
            Chain::NewOld => (vec![new, old], new),
            Chain::NewOldWithoutKey => (vec![new, old], old),
            Chain::New => (vec![new], new),
        };
        let certificate = chain.iter().map(|authority| authority.certificate_pem()).collect();
        let pair = CertificateAuthority { certificate, key: Some(key.key_pem()) };
        self.machine = changed(&self.machine, |config| config.cluster.certificate_authorities.kubernetes = pair);
    }

    /// All that runs shows and accepts what the config says.
    fn follow(&mut self) {
        let authorities = &self.machine.config.cluster.certificate_authorities;
        let issuer = if ID.of(authorities).certificate.starts_with(self.new.certificate_pem()) { &self.new } else { &self.old };
        let request = CertificateRequest {
            common_name: "kube-apiserver".to_owned(),
            organization: None,
            sans: Vec::new(),
            usage: Usage::Both,
            lifetime: DAY,
        };
        let pem = issuer.issue(&request, self.now).unwrap().certificate_pem;
        let der = pem_der(&pem);
        let ours = listeners(&self.machine).into_iter().filter(|listener| ["kube-apiserver", "kube-scheduler"].contains(&listener.service));
        let shown = ours.map(|listener| {
            let accepts = listener.clients.iter().flat_map(|id| subjects(&id.of(authorities).certificate)).collect();
            let certificate = Some(der.clone()).filter(|_| listener.serves.is_some());
            (listener, Ok(Shown { certificate, accepts }))
        });
        let settled = |name: &str| {
            let status = ControllerStatus { state: ControllerState::Settled, waits_for: Vec::new(), error: String::new(), generation: 7 };
            (name.to_owned(), status)
        };
        let before = Some(self.now - Duration::from_secs(3600));
        self.looked = Looked {
            certificates: BTreeMap::from([
                (CertificateId::ApiServer, (pem.clone(), before)),
                (CertificateId::ApiServerKubeletClient, (pem, before)),
            ]),
            controllers: ["pki", "kube-apiserver", "kubelet"].map(settled).into(),
            not_ready: BTreeSet::new(),
            shown: shown.collect(),
            roots: Some(Ok(BTreeMap::from([("default".to_owned(), ID.of(authorities).certificate.clone())]))),
        };
    }

    /// What is told once nothing new is to be told.
    fn status(&mut self) -> AuthorityStatus {
        let looked = is_restless(&self.machine, &self.told).then(|| std::mem::take(&mut self.looked));
        let mut seen = Seen { generation: 7, machine: Ok(self.machine.clone()), told: self.told.clone(), looked, now: self.now };
        if let Plan::Act(news) = plan(&seen) {
            seen.told.extend(news.into_iter().map(|told| (told.id.name().to_owned(), told.status)));
        }
        assert!(!matches!(plan(&seen), Plan::Act(_)), "told twice");
        self.told = seen.told;
        self.looked = seen.looked.unwrap_or_default();
        self.told[ID.name()].clone()
    }
}

fn pem_der(pem: &str) -> Vec<u8> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap().contents
}

#[test]
fn phases_follow_the_config() {
    let mut model = Model::new();
    for (config, phase, accepts) in [
        (Chain::Old, Phase::Settled, vec!["Kubernetes"]),
        (Chain::OldNew, Phase::Accepting, vec!["Kubernetes", "Kubernetes 2"]),
        (Chain::NewOld, Phase::Issuing, vec!["Kubernetes 2", "Kubernetes"]),
        (Chain::New, Phase::Settled, vec!["Kubernetes 2"]),
    ] {
        model.set(config);
        model.follow();
        let status = model.status();
        assert_eq!((status.phase, &status.accepts), (phase, &accepts.iter().map(|name| (*name).to_owned()).collect()));
        assert_eq!((status.subject.as_str(), status.key), (accepts[0], true));
        assert_eq!((status.waits_for, status.cluster_waits_for), (Vec::<String>::new(), Vec::<String>::new()), "{accepts:?}");
    }
    // Then nobody has to look any more.
    assert!(!is_restless(&model.machine, &model.told));
}

/// Each thing that is behind is named, and nothing else.
#[test]
fn what_has_not_followed_is_named() {
    type Change = fn(&mut Model);
    let cases: [(&str, Chain, Change); 8] = [
        ("API server: it is not ready", Chain::OldNew, |model| model.looked.roots = Some(Err("it is not ready".to_owned()))),
        ("controller kubelet", Chain::OldNew, |model| model.looked.controllers.get_mut("kubelet").unwrap().generation = 6),
        ("controller pki", Chain::NewOld, |model| model.looked.controllers.get_mut("pki").unwrap().state = ControllerState::Acting),
        ("service kube-apiserver", Chain::NewOld, |model| model.looked.not_ready.extend(["kube-apiserver".to_owned()])),
        ("kube-apiserver to accept the clients of these authorities alone", Chain::OldNew, |model| {
            let gone = subjects(model.new.certificate_pem());
            shown(model, "kube-apiserver").accepts.retain(|subject| !gone.contains(subject));
        }),
        ("kube-scheduler to accept the clients of these authorities alone", Chain::New, |model| {
            let more = subjects(model.old.certificate_pem());
            shown(model, "kube-scheduler").accepts.extend(more);
        }),
        ("kube-apiserver: no answer", Chain::NewOld, |model| {
            model.looked.shown.iter_mut().for_each(|(listener, shown)| {
                if listener.service == "kube-apiserver" {
                    *shown = Err("no answer".to_owned());
                }
            });
        }),
        ("the key of the new authority", Chain::NewOldWithoutKey, |_| {}),
    ];
    for (expected, config, change) in cases {
        let mut model = Model::new();
        model.status();
        model.set(config);
        model.follow();
        change(&mut model);
        assert_eq!(model.status().waits_for, [expected]);
        assert!(is_restless(&model.machine, &model.told), "{expected}");
    }
}

fn shown<'a>(model: &'a mut Model, service: &str) -> &'a mut Shown {
    let found = model.looked.shown.iter_mut().find(|(listener, _)| listener.service == service).unwrap();
    found.1.as_mut().unwrap()
}

#[test]
fn old_certificates_and_old_roots_are_named() {
    let mut model = Model::new();
    model.set(Chain::OldNew);
    model.follow();
    model.status();
    let before = std::mem::take(&mut model.looked);
    model.set(Chain::NewOld);
    model.looked = before;
    let status = model.status();
    let expected =
        ["certificate kube-apiserver", "certificate kube-apiserver-kubelet-client", "kube-apiserver to show its new certificate"];
    assert_eq!(status.waits_for, expected);
    assert_eq!((status.cluster_waits_for.len(), status.phase), (0, Phase::Issuing), "the order does not matter");
    model.follow();
    model.looked.roots = Some(Ok(BTreeMap::from([("default".to_owned(), model.old.certificate_pem().to_owned())])));
    assert_eq!(model.status().cluster_waits_for, ["ConfigMap kube-root-ca.crt of namespace default"]);
}

/// Only where the old authority goes next, and only so long as the API server may still use the old certificate.
#[test]
fn kubelets_take_old_certificates_until_api_servers_have_new_ones() {
    for (chain, age, waits) in [(Chain::OldNew, 1, 0), (Chain::NewOld, 299, 1), (Chain::NewOld, 301, 0), (Chain::New, 1, 0)] {
        let mut model = Model::new();
        model.status();
        model.set(chain);
        model.follow();
        let since = model.now - Duration::from_secs(age);
        model.looked.certificates.get_mut(&CertificateId::ApiServerKubeletClient).unwrap().1 = Some(since);
        let status = model.status();
        assert_eq!((status.waits_for.len(), status.cluster_waits_for.len()), (0, waits), "{age}: {status:?}");
    }
}
