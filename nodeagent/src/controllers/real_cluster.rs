//! A real API server for tests of controllers: the control plane that controlplane's own tests start, and a machine whose board, config and
//! certificates are those of its node. All of it lives in network and mount namespaces of the calling thread, and needs root and what
//! `make components` builds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use controlplane::client::Client;
use controlplane::kubeconfig::{self, Auth};
use controlplane::{apiserver, controller_manager, etcd, pki, scheduler};
use kube::api::{Api, Patch, PatchParams, PostParams};
use machine::config::Config;
use machine::service::{ServiceState, ServiceStatus};
use serde_json::{Value, json};

use super::balancer::Balancer;
use super::control_plane::API_SERVER;
use super::manifests::Manifests;
use super::pki::Pki;
use crate::controller::{self, Controller};
use crate::init_client::InitClient;
use crate::node::{Applied, Node};
use crate::resources::manifests::ManifestSet;
use crate::resources::network::{Hostname, NodeIps};
use crate::resources::time::TimeStatus;
pub use machine_under_test::{MachineUnderTest, until};

#[path = "../../../controlplane/tests/real_apiserver/machine_under_test.rs"]
#[expect(dead_code, reason = "controlplane's own tests use the rest of it")]
pub mod machine_under_test;

/// Of the node, on a link of its own.
const NODE_IP: [u8; 4] = [192, 0, 2, 20];
/// Of certificates that tests ask for.
const LIFETIME: Duration = Duration::from_secs(3600);

pub struct RealCluster {
    pub node: Node,
    machine: MachineUnderTest,
}

impl RealCluster {
    /// Runs a test on a thread of its own, with a cluster whose manifests are applied. What it says when it fails ends with the services' logs.
    pub fn run<F: AsyncFnOnce(&RealCluster) -> anyhow::Result<()> + Send + 'static>(
        change: impl FnOnce(&mut Config) + Send + 'static,
        test: F,
    ) {
        RealCluster::run_with(change, false, test);
    }

    /// The same with a scheduler.
    pub fn run_scheduling<F: AsyncFnOnce(&RealCluster) -> anyhow::Result<()> + Send + 'static>(
        change: impl FnOnce(&mut Config) + Send + 'static,
        test: F,
    ) {
        RealCluster::run_with(change, true, test);
    }

    fn run_with<F: AsyncFnOnce(&RealCluster) -> anyhow::Result<()> + Send + 'static>(
        change: impl FnOnce(&mut Config) + Send + 'static,
        scheduling: bool,
        test: F,
    ) {
        let running = std::thread::spawn(move || {
            let mut machine = MachineUnderTest::new().unwrap();
            change(&mut machine.config);
            for line in ["link add eth0 type bridge", "link set eth0 up", "address add 192.0.2.20/24 dev eth0"] {
                assert!(std::process::Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let node = node(&machine, IpAddr::from(NODE_IP));
            let cluster = RealCluster { node, machine };
            runtime.block_on(async move {
                let mut cluster = cluster;
                let done = match cluster.start(scheduling).await {
                    Ok(()) => test(&cluster).await,
                    Err(error) => Err(error),
                };
                done.map_err(|error| error.context(cluster.machine.logs())).unwrap();
            });
        });
        running.join().unwrap();
    }

    async fn start(&mut self, scheduling: bool) -> anyhow::Result<()> {
        let machine = &mut self.machine;
        let membership = etcd::Membership::bootstrap(&machine.facts)?;
        machine.start(etcd::render(&machine.config, &machine.facts, &machine.credentials, &membership)?).await?;
        machine.start(apiserver::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
        let admin = self.admin()?;
        until("the API server is ready", || async { Ok(admin.readyz().await?) }).await?;
        // As init would tell.
        let id = super::service::id(API_SERVER)?;
        let ready = ServiceState::Ready;
        let status = ServiceStatus { id, state: ready, pid: None, restarts: 0, last_exit: None, since_boot: Duration::ZERO };
        self.node.store.put(API_SERVER, &status);
        let machine = &mut self.machine;
        machine.start(controller_manager::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
        if scheduling {
            machine.start(scheduler::render(&machine.config, &machine.facts, &machine.credentials)?).await?;
        }
        self.spawn(Pki::default());
        self.spawn(Balancer::default());
        self.spawn(Manifests::default());
        let applied = || self.node.store.get::<ManifestSet>(ManifestSet::NAME);
        until("the manifests are applied", || async {
            applied().ok_or_else(|| anyhow::anyhow!("{:?} {:?}", self.node.store.list("controllers"), self.node.store.list("apiservers")))
        })
        .await?;
        Ok(())
    }

    /// Another control plane of the cluster with certificates of its own, of which nothing runs but what the test starts.
    pub fn beside(&self, name: &str, address: IpAddr) -> anyhow::Result<(MachineUnderTest, Node)> {
        let machine = self.machine.beside(name, address)?;
        let node = node(&machine, address);
        Ok((machine, node))
    }

    /// Runs a controller for the rest of the test.
    pub fn spawn(&self, controller: impl Controller) {
        tokio::spawn(controller::run(controller, self.node.clone()));
    }

    /// Of a service's process, for signals.
    pub fn pid(&self, service: &str) -> anyhow::Result<i32> {
        Ok(self.machine.pid(service)?.try_into()?)
    }

    pub fn admin(&self) -> anyhow::Result<Client> {
        self.machine.client(&pki::super_user(LIFETIME))
    }

    /// An administrator's kubeconfig, for a program that finds the API server at this URL.
    pub fn kubeconfig(&self, server: &str) -> anyhow::Result<String> {
        self.kubeconfig_of(&pki::super_user(LIFETIME), server)
    }

    /// The same in somebody's name.
    pub fn kubeconfig_of(&self, who: &pki::CertificateRequest, server: &str) -> anyhow::Result<String> {
        let authority = &self.machine.config.cluster.certificate_authorities.kubernetes;
        let key = authority.key.as_ref().context("the config has the key")?;
        let issuer = pki::Authority::from_pem(&authority.certificate, key.reveal())?;
        let issued = issuer.issue(who, SystemTime::now())?;
        let auth = Auth::Embedded { certificate: &issued.certificate_pem, key: &issued.key_pem };
        Ok(kubeconfig::render("demo", server, &authority.certificate, "test", auth)?)
    }

    pub fn as_who(&self, id: pki::CertificateId) -> anyhow::Result<Client> {
        self.machine.client_of(id)
    }

    /// A client of a server that the Kubernetes authority vouches for, with a certificate that the machine keeps.
    pub fn at(&self, server: &str, id: pki::CertificateId) -> anyhow::Result<Client> {
        self.machine.client_with(server, pki::AuthorityId::Kubernetes, self.machine.credentials.certificate(id)?)
    }

    /// A client of the API server in this name.
    pub fn in_the_name_of(&self, request: &pki::CertificateRequest) -> anyhow::Result<Client> {
        self.machine.client(request)
    }

    /// Makes an object of a kind, as this client.
    pub async fn create<K>(&self, client: &Client, object: Value) -> anyhow::Result<K>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        Ok(Api::<K>::all(client.kube().clone()).create(&PostParams::default(), &serde_json::from_value(object)?).await?)
    }

    /// Registers a Node as its kubelet does: its addresses come with a second call.
    pub async fn register(&self, client: &Client, name: &str, address: &str, extra: Value) -> anyhow::Result<()> {
        let mut object = json!({ "metadata": { "name": name } });
        merge(&mut object, extra);
        self.create::<k8s_openapi::api::core::v1::Node>(client, object).await?;
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": address }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "", "message": "", "lastHeartbeatTime": null, "lastTransitionTime": null }],
        }});
        let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(client.kube().clone());
        nodes.patch_status(name, &Default::default(), &Patch::Merge(status)).await?;
        Ok(())
    }

    /// Says again and again that these Nodes are ready, as their kubelets would: otherwise they would be given up within the test.
    pub async fn keep_ready(nodes: Api<k8s_openapi::api::core::v1::Node>, names: Vec<&'static str>) {
        let mut beats = tokio::time::interval(Duration::from_secs(5));
        loop {
            beats.tick().await;
            for name in &names {
                let now = crate::clock::date(SystemTime::now());
                let ready = json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": now });
                let patch: Patch<Value> = Patch::Strategic(json!({ "status": { "conditions": [ready] } }));
                // One that is lost is no matter; one that never comes shows in what is waited for.
                let _ = nodes.patch_status(name, &PatchParams::default(), &patch).await;
            }
        }
    }
}

/// Lays one object over another.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

fn node(machine: &MachineUnderTest, address: IpAddr) -> Node {
    let root = machine.facts.root.clone();
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    node.set_config(Applied { generation: 1, config: Arc::new(machine.config.clone()) });
    node.store.put(Hostname::NAME, &Hostname { hostname: machine.facts.node_name.clone(), source: "config".to_owned() });
    node.store.put(NodeIps::NAME, &NodeIps { addresses: vec![address] });
    node.store.put(TimeStatus::NAME, &TimeStatus { synchronized: true, ..TimeStatus::default() });
    node
}
