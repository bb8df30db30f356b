//! A real etcd, API server, controller manager, scheduler and CoreDNS from our files, flags and accounts: what only they can tell is wrong.
//!
//! Needs root, for network and mount namespaces of its own, and the components that `make components` builds; it fails without them.

mod dns;
#[expect(dead_code, reason = "nodeagent's tests use the rest of it")]
mod machine_under_test;

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use controlplane::client::{Applier, Client, Outcome};
use controlplane::manifests::manifests;
use controlplane::pki::{self, AuthorityId, CertificateId, CertificateRequest, Usage};
use controlplane::{Facts, apiserver, controller_manager, etcd, scheduler};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ComponentStatus, ConfigMap, Namespace, Node, Pod, Secret, Service};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use machine::version::Minor;
use machine_under_test::{MachineUnderTest, until};

#[test]
fn a_control_plane_serves_from_our_files() -> Result<()> {
    let mut machine = MachineUnderTest::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checked = runtime.block_on(check(&mut machine));
    checked.with_context(|| machine.logs())
}

async fn check(machine: &mut MachineUnderTest) -> Result<()> {
    let membership = etcd::Membership::bootstrap(&machine.facts)?;
    machine.start(etcd::render(&machine.config, &machine.facts, &machine.credentials, &membership)?).await?;
    etcd_tells_its_health_to_the_agent_only(machine).await?;

    machine.start(apiserver::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
    let super_user = machine.client(&pki::super_user(Duration::from_secs(3600)))?;
    until("the API server is ready", || async { Ok(super_user.readyz().await?) }).await?;
    anonymous_requests_reach_health_checks_only(machine).await?;

    machine.start(controller_manager::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
    machine.start(scheduler::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
    manifests_apply_and_apply_again(machine, &super_user).await?;
    roles_are_what_they_say(machine).await?;
    let admin = machine.client(&pki::kubernetes_admin("admin", Duration::from_secs(3600)))?;
    components_are_healthy(&admin).await?;
    secrets_are_encrypted_at_rest(machine, &admin).await?;
    controllers_work(&admin).await?;
    kubelets_get_certificates_that_are_granted(machine).await?;
    dns::services_have_names(machine, &admin).await?;
    machine.no_flag_is_deprecated()?;
    an_image_on_trial_behaves_as_the_one_before(machine).await
}

/// The three start as the minor version before theirs, on data that they wrote as themselves, and as themselves again once the image is kept.
async fn an_image_on_trial_behaves_as_the_one_before(machine: &mut MachineUnderTest) -> Result<()> {
    let own: Minor = version(machine).await?["gitVersion"].as_str().context("it names its version")?.parse()?;
    let old = own.previous().context("it is not the first")?;
    for emulated in [Some(old), None] {
        let facts = Facts { emulated, ..machine.facts.clone() };
        for service in ["kube-scheduler", "kube-controller-manager", "kube-apiserver"] {
            machine.stop(service)?;
        }
        machine.start(apiserver::render(&machine.config, &facts, &machine.credentials)?).await?;
        let super_user = machine.client(&pki::super_user(Duration::from_secs(3600)))?;
        until("the API server is ready", || async { Ok(super_user.readyz().await?) }).await?;
        machine.start(controller_manager::render(&machine.config, &facts, &machine.credentials)?).await?;
        machine.start(scheduler::render(&machine.config, &facts, &machine.credentials)?).await?;
        let version = version(machine).await?;
        let shown = format!(
            "{}.{}",
            version["emulationMajor"].as_str().unwrap_or_default(),
            version["emulationMinor"].as_str().unwrap_or_default()
        );
        ensure!(shown == emulated.unwrap_or(own).to_string(), "emulates {emulated:?}: {version}");
        let admin = machine.client(&pki::kubernetes_admin("admin", Duration::from_secs(3600)))?;
        components_are_healthy(&admin).await?;
        machine.no_flag_is_deprecated()?;
    }
    Ok(())
}

/// What the API server says that it is.
async fn version(machine: &MachineUnderTest) -> Result<serde_json::Value> {
    let admin = machine.client(&pki::kubernetes_admin("admin", Duration::from_secs(3600)))?;
    Ok(admin.kube().request(http::Request::get("/version").body(Vec::new())?).await?)
}

async fn etcd_tells_its_health_to_the_agent_only(machine: &MachineUnderTest) -> Result<()> {
    let server = etcd::health_server();
    let health = machine.etcd_client(&server)?.get(etcd::HEALTH_PATH).await?;
    ensure!(health.contains("\"health\":\"true\""), "etcd's health is {health}");
    let stranger = machine.without_certificate(&server, AuthorityId::EtcdClient)?;
    ensure!(
        stranger.request_text(http::Request::get(etcd::HEALTH_PATH).body(Vec::new())?).await.is_err(),
        "etcd answered without a certificate"
    );
    Ok(())
}

async fn anonymous_requests_reach_health_checks_only(machine: &MachineUnderTest) -> Result<()> {
    let nobody = machine.without_certificate("https://127.0.0.1:6443", AuthorityId::Kubernetes)?;
    let get = |path: &'static str| {
        let nobody = nobody.clone();
        async move { nobody.request_text(http::Request::get(path).body(Vec::new()).expect("a legal path")).await }
    };
    for open in ["/livez", "/readyz", "/healthz"] {
        get(open).await.with_context(|| format!("{open} for anonymous"))?;
    }
    for closed in ["/", "/version", "/api", "/api/v1/nodes", "/metrics", "/readyz/etcd", "/openid/v1/jwks"] {
        let code = status_code(get(closed).await.map(drop));
        ensure!(code == Some(401), "{closed} for anonymous: {code:?}, expected 401");
    }
    Ok(())
}

async fn manifests_apply_and_apply_again(machine: &MachineUnderTest, super_user: &Client) -> Result<()> {
    let all = manifests(&machine.config)?;
    for round in ["first", "second"] {
        let mut applier = Applier::new(super_user);
        for manifest in &all {
            let outcome = applier.apply(manifest).await?;
            ensure!(outcome == Outcome::Applied, "{manifest} the {round} time: {outcome:?}");
        }
    }
    let dns = Api::<Service>::namespaced(super_user.kube().clone(), "kube-system").get("kube-dns").await?;
    let address = dns.spec.and_then(|spec| spec.cluster_ip);
    ensure!(address.as_deref() == Some("10.96.0.10"), "kube-dns has address {address:?}");
    let users = Api::<ConfigMap>::namespaced(super_user.kube().clone(), "demo").get("users-own").await?;
    ensure!(users.data.is_some_and(|data| data["greeting"] == "hello"), "the user's manifest is not as given");
    Ok(())
}

/// What an identity asks for, and the status code it gets; `None` is success.
async fn roles_are_what_they_say(machine: &MachineUnderTest) -> Result<()> {
    const NODES: &str = "/api/v1/nodes";
    const SECRETS: &str = "/api/v1/secrets";
    let admin = machine.client(&pki::kubernetes_admin("admin", Duration::from_secs(3600)))?;
    let table = [
        ("admin", &admin, SECRETS, None),
        ("agent", &machine.client_of(CertificateId::Agent)?, NODES, None),
        ("agent", &machine.client_of(CertificateId::Agent)?, "/apis/networking.k8s.io/v1/networkpolicies", None),
        ("agent", &machine.client_of(CertificateId::Agent)?, "/apis/discovery.k8s.io/v1/endpointslices", None),
        ("agent", &machine.client_of(CertificateId::Agent)?, SECRETS, Some(403)),
        ("kube-proxy", &machine.client_of(CertificateId::KubeProxy)?, NODES, None),
        ("kube-proxy", &machine.client_of(CertificateId::KubeProxy)?, SECRETS, Some(403)),
        ("kubelet", &machine.client_of(CertificateId::KubeletClient)?, SECRETS, Some(403)),
        ("API server as kubelets' client", &machine.client_of(CertificateId::ApiServerKubeletClient)?, SECRETS, Some(403)),
    ];
    for (who, client, path, expected) in table {
        let code = status_code(client.kube().request_text(http::Request::get(path).body(Vec::new())?).await.map(drop));
        ensure!(code == expected, "{who} asking for {path}: {code:?}, expected {expected:?}");
    }
    let foreign = machine.foreign_client()?;
    let code = status_code(foreign.kube().request_text(http::Request::get(NODES).body(Vec::new())?).await.map(drop));
    ensure!(code == Some(401), "a certificate of another authority: {code:?}");
    Ok(())
}

async fn components_are_healthy(admin: &Client) -> Result<()> {
    let statuses = Api::<ComponentStatus>::all(admin.kube().clone());
    until("all component statuses are healthy", || async {
        let list = statuses.list(&ListParams::default()).await?;
        ensure!(list.items.len() == 3, "{} components", list.items.len());
        for status in list.items {
            let healthy = status.conditions.iter().flatten().any(|condition| condition.type_ == "Healthy" && condition.status == "True");
            ensure!(healthy, "{:?}: {:?}", status.metadata.name, status.conditions);
        }
        Ok(())
    })
    .await
}

async fn secrets_are_encrypted_at_rest(machine: &MachineUnderTest, admin: &Client) -> Result<()> {
    const PLAIN: &str = "it is a truth universally acknowledged";
    let mut secret = Secret::default();
    secret.metadata.name = Some("at-rest".to_owned());
    secret.data = Some([("text".to_owned(), ByteString(PLAIN.into()))].into());
    Api::<Secret>::namespaced(admin.kube().clone(), "default").create(&PostParams::default(), &secret).await?;
    let raw = machine.etcd_value("/registry/secrets/default/at-rest")?;
    ensure!(raw.starts_with(b"k8s:enc:secretbox:v1:key1:"), "etcd holds {:?}", String::from_utf8_lossy(&raw));
    ensure!(!raw.windows(PLAIN.len()).any(|window| window == PLAIN.as_bytes()), "the plain text is in etcd");
    Ok(())
}

/// The controller manager has its identity, its keys and our networks: it makes accounts and pods, and gives a node its pod network.
async fn controllers_work(admin: &Client) -> Result<()> {
    let kube = || admin.kube().clone();
    let mut node = Node::default();
    node.metadata.name = Some("worker-1".to_owned());
    Api::<Node>::all(kube()).create(&PostParams::default(), &node).await?;
    until("the node has a pod network", || async {
        let node = Api::<Node>::all(kube()).get("worker-1").await?;
        let network = node.spec.and_then(|spec| spec.pod_cidr).context("none yet")?;
        ensure!(network.starts_with("10.244.") && network.ends_with("/24"), "{network}");
        Ok(())
    })
    .await?;
    until("the namespace has the authority's certificate", || async {
        Api::<ConfigMap>::namespaced(kube(), "default").get("kube-root-ca.crt").await?;
        Ok(())
    })
    .await?;
    until("CoreDNS has a pod, with a token of its account", || async {
        ensure!(
            !Api::<ReplicaSet>::namespaced(kube(), "kube-system").list(&ListParams::default()).await?.items.is_empty(),
            "no replica set"
        );
        let pods = Api::<Pod>::namespaced(kube(), "kube-system").list(&ListParams::default().labels("k8s-app=kube-dns")).await?;
        let pod = pods.items.first().context("no pod")?;
        let scheduled = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).context("not seen by the scheduler yet")?;
        ensure!(scheduled.iter().any(|condition| condition.type_ == "PodScheduled"), "{scheduled:?}");
        Ok(())
    })
    .await?;
    Api::<Namespace>::all(kube()).delete("demo", &Default::default()).await?;
    until("a deleted namespace goes away", || async {
        ensure!(Api::<Namespace>::all(kube()).get_opt("demo").await?.is_none(), "still there");
        Ok(())
    })
    .await
}

/// Asked for by the node's agent, granted by nobody but whoever may, signed by the controller manager with the Kubernetes authority.
async fn kubelets_get_certificates_that_are_granted(machine: &MachineUnderTest) -> Result<()> {
    let agent = machine.client_of(CertificateId::Agent)?;
    let request = CertificateRequest {
        common_name: format!("system:node:{}", machine.facts.node_name),
        organization: Some("system:nodes".to_owned()),
        sans: Vec::new(),
        usage: Usage::Client,
        lifetime: Duration::from_secs(3600),
    };
    let csr: CertificateSigningRequest = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "renewal" },
        "spec": {
            "request": ByteString(pki::signing_request(&request)?.request_pem.into()),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    }))?;
    let requests = Api::<CertificateSigningRequest>::all(agent.kube().clone());
    requests.create(&PostParams::default(), &csr).await?;
    let granted = serde_json::json!({ "status": { "conditions": [
        { "type": "Approved", "status": "True", "reason": "Test", "message": "granted" },
    ] } });
    let grant = |requests: Api<CertificateSigningRequest>| {
        let granted = Patch::Merge(granted.clone());
        async move { requests.patch_approval("renewal", &PatchParams::default(), &granted).await }
    };
    let refused = status_code(grant(requests.clone()).await.map(drop));
    ensure!(refused == Some(403), "an agent grants its own request: {refused:?}");
    let admin = machine.client(&pki::kubernetes_admin("admin", Duration::from_secs(3600)))?;
    grant(Api::all(admin.kube().clone())).await?;
    let certificate = until("the node's request is signed", || async {
        let csr = requests.get("renewal").await?;
        csr.status.and_then(|status| status.certificate).context("no certificate yet")
    })
    .await?;
    let certificate = String::from_utf8(certificate.0)?;
    let authority = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
    Ok(pki::verify_chain(&certificate, authority, SystemTime::now())?)
}

/// The API's own status code; `None` is success, 0 any other error.
fn status_code(answer: Result<(), kube::Error>) -> Option<u16> {
    match answer {
        Ok(()) => None,
        Err(kube::Error::Api(status)) => Some(status.code),
        Err(_) => Some(0),
    }
}
