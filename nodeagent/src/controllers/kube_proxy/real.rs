//! The real kube-proxy in a network of its own, against a real API server: a Service answers in each mode, and nothing of the mode before is left.
//!
//! Mode ipvs needs a kernel with ip_vs, which hosts of tests need not have: what it leaves is taken away by the same call.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use machine::config::Config;
use machine::protocol::Event;
use machine::service::ServiceState;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::controllers::cluster_node;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::controllers::real_init::{self, RealInit};
use crate::node::Applied;

/// Of somebody else: what a kubelet and portmap make, and a table of nftables.
const FOREIGN: [&str; 6] = [
    "iptables -t mangle -N KUBE-KUBELET-CANARY",
    "iptables -t nat -N CNI-HOSTPORT-DNAT",
    "iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 8080 -j DNAT --to-destination 10.244.0.9:80",
    "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
    "nft add table inet somebody",
    "nft add chain inet somebody input { type filter hook input priority 0 ; }",
];

#[test]
fn modes_are_switched() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let node = &cluster.node;
            run("ip route add default dev eth0")?;
            for line in FOREIGN {
                run(line)?;
            }
            let foreign = foreign()?;
            RealInit::start(&node.root, real_init::components());
            let readies = Arc::new(AtomicUsize::new(0));
            tokio::spawn(follow(node.clone(), readies.clone()));
            tokio::spawn(cluster_node::follow(node.clone()));
            let kubelet = cluster.as_who(CertificateId::KubeletClient)?;
            cluster.register(&kubelet, "cp-1", "192.0.2.20", json!({})).await?;
            let service = service(cluster).await?;
            change(node, |config| config.cluster.network.proxy.mode = ProxyMode::Nftables);
            cluster.spawn(KubeProxy::default());

            let is = async |mode: ProxyMode| {
                until(&format!("mode {mode:?} alone is in place"), || async {
                    ensure!(
                        mode == ProxyMode::None || answers(service).await,
                        "the Service does not answer: {:?}",
                        node.store.list("controllers")
                    );
                    let left = rules()?;
                    ensure!(
                        left.nftables == (mode == ProxyMode::Nftables) && left.iptables.is_empty() != (mode == ProxyMode::Iptables),
                        "{left:?}"
                    );
                    Ok(())
                })
                .await?;
                ensure!(self::foreign()? == foreign, "something of others changed in mode {mode:?}: {foreign} {}", self::foreign()?);
                Ok(())
            };
            is(ProxyMode::Nftables).await?;
            restarts(node, service, &readies).await.context("mode nftables")?;
            for mode in [ProxyMode::Iptables, ProxyMode::Nftables] {
                let began = Instant::now();
                let cleaned = cleanings(node);
                change(node, |config| config.cluster.network.proxy.mode = mode);
                is(mode).await?;
                eprintln!("{mode:?} is in place after {:?}", began.elapsed());
                ensure!(cleanings(node) == cleaned + 1, "cleaned {} times", cleanings(node) - cleaned);
                restarts(node, service, &readies).await.with_context(|| format!("mode {mode:?}"))?;
            }
            change(node, |config| config.cluster.network.proxy.mode = ProxyMode::None);
            is(ProxyMode::None).await?;
            // The file goes after the rules.
            until("the mode is forgotten", || async {
                ensure!(!node.root.kube_proxy_config().exists(), "its config is there");
                Ok(())
            })
            .await?;
            ensure!(!answers(service).await, "it still answers");
            Ok(())
        },
    );
}

/// As the agent does, but for the services that the cluster under test runs by itself.
async fn follow(node: Node, readies: Arc<AtomicUsize>) {
    let mut events = node.init.subscribe().await.unwrap();
    while let Ok(event) = events.next().await {
        match event {
            Event::Service(status) => {
                node.store.put(status.id.as_str(), &status);
                readies.fetch_add(usize::from(status.state == ServiceState::Ready), Ordering::Relaxed);
            }
            Event::ServiceRemoved(id) => node.store.remove::<ServiceStatus>(id.as_str()),
            Event::Volume(_) => {}
        }
    }
}

fn change(node: &Node, change: impl FnOnce(&mut Config)) {
    let applied = node.config().unwrap();
    let mut config = (*applied.config).clone();
    change(&mut config);
    node.set_config(Applied { generation: applied.generation + 1, config: Arc::new(config) });
}

/// A Service whose only endpoint is this machine.
async fn service(cluster: &RealCluster) -> Result<SocketAddr> {
    let listener = TcpListener::bind("192.0.2.20:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.write_all(b"hello").await });
        }
    });
    let client = cluster.admin()?.kube().clone();
    let service = json!({ "metadata": { "name": "hello" }, "spec": { "ports": [{ "port": 80, "targetPort": port }] } });
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let service = services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let slice = json!({
        "metadata": { "name": "hello-1", "labels": { "kubernetes.io/service-name": "hello" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["192.0.2.20"], "conditions": { "ready": true } }],
        "ports": [{ "port": port, "protocol": "TCP" }],
    });
    Api::<EndpointSlice>::namespaced(client, "default").create(&PostParams::default(), &serde_json::from_value(slice)?).await?;
    let address: IpAddr = service.spec.and_then(|spec| spec.cluster_ip).context("an address")?.parse()?;
    Ok(SocketAddr::new(address, 80))
}

async fn answers(service: SocketAddr) -> bool {
    let asked = async {
        let mut said = String::new();
        TcpStream::connect(service).await?.read_to_string(&mut said).await?;
        std::io::Result::Ok(said == "hello")
    };
    timeout(Duration::from_secs(30), asked).await.is_ok_and(|answer| answer.unwrap_or(false))
}

/// kube-proxy is restarted for another reason than its mode, and no connection is refused or lost.
async fn restarts(node: &Node, service: SocketAddr, readies: &AtomicUsize) -> Result<()> {
    let (cleaned, ready) = (cleanings(node), readies.load(Ordering::Relaxed));
    change(node, |config| drop(config.cluster.network.proxy.extra_args.insert("v".to_owned(), (ready + 1).to_string())));
    let calls = Rc::new(RefCell::new((0, 0)));
    until("it is ready again", || async {
        let good = answers(service).await;
        let (all, lost) = *calls.borrow();
        *calls.borrow_mut() = (all + 1, lost + usize::from(!good));
        ensure!(readies.load(Ordering::Relaxed) > ready, "not yet");
        Ok(())
    })
    .await?;
    let (all, lost) = *calls.borrow();
    ensure!(lost == 0 && cleanings(node) == cleaned, "{lost} of {all} connections lost");
    Ok(())
}

fn cleanings(node: &Node) -> usize {
    let newest = *node.events.newest().borrow();
    let all = (1..=newest).filter_map(|number| node.events.next(number).filter(|event| event.number == number));
    all.filter(|event| event.reason == "Cleaned").count()
}

#[derive(Debug)]
struct Rules {
    nftables: bool,
    iptables: Vec<String>,
}

/// Whose rules the kernel has.
fn rules() -> Result<Rules> {
    let tables = run("nft list tables")?;
    let chains = ["iptables-save", "ip6tables-save"].map(run).into_iter().collect::<Result<String>>()?;
    // Two are the kubelet's. kube-proxy makes one of them as well, in case it comes first, and leaves it to the kubelet.
    let own = |line: &&str| line.contains("KUBE-") && !line.contains("KUBE-KUBELET-") && !line.contains("KUBE-FIREWALL");
    Ok(Rules { nftables: tables.contains("kube-proxy"), iptables: chains.lines().filter(own).map(str::to_owned).collect() })
}

/// What is not kube-proxy's, without counters.
fn foreign() -> Result<String> {
    let chains = run("iptables-save")?;
    let lines = chains.lines().filter(|line| line.contains("CNI-") || line.contains("KUBE-KUBELET-"));
    let lines = lines.map(|line| line.split(" [").next().unwrap_or(line));
    Ok(lines.chain([run("nft list table inet somebody")?.as_str()]).collect::<Vec<_>>().join("\n"))
}

/// What a command prints; its words are apart by spaces.
fn run(line: &str) -> Result<String> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().context("a program")?).args(words).output().with_context(|| line.to_owned())?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
