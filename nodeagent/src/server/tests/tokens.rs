//! Scrapers of `/metrics` without a certificate, but with a token: of a machine that cannot ask anybody about it, and of one whose API server is
//! real. That one needs root and what `make components` builds; it fails without them.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use api::v1::GetVersionRequest;
use api::v1::machine_client::MachineClient;
use controlplane::client::Client;
use controlplane::pki::CertificateId;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::PostParams;
use nix::sys::signal::{Signal, kill};
use rustls::version::TLS13;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::harness::{self, Machine, Trust, client_config, without_certificate};
use super::scrapes::{Answer, ask};
use crate::controllers::pki::Keyring;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::node::Node;
use crate::server::{serve, tls};
use crate::stage::StageEvent;

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJub2JvZHkifQ.c2lnbmF0dXJl";

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn without_an_api_server_to_ask_no_token_is_good() {
    let machine = Machine::configured().await;
    let got = ask(machine.address, without_certificate(), "/metrics", &[]).await;
    assert_eq!((got.status, got.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"corten\""));
    let got = ask(machine.address, without_certificate(), "/metrics", &[("authorization", &bearer(TOKEN))]).await;
    assert_eq!(got.status, 503, "{}", got.text);
    assert!(!got.text.contains("container_") && got.headers.contains_key("retry-after"), "{}", got.text);
    let event = machine.until_event("calling /metrics: asking whose a token is").await;
    assert!(!event.contains(TOKEN), "{event}");
}

#[tokio::test]
async fn a_token_opens_nothing_else() {
    let machine = Machine::configured().await;
    for path in ["/", "/metrics/", "/metrics/cadvisor", "/corten.machine.v1.Machine/GetVersion"] {
        let got = ask(machine.address, without_certificate(), path, &[("authorization", &bearer(TOKEN))]).await;
        assert!(
            got.text.is_empty() && got.headers.get("grpc-status").is_some_and(|code| code != "0"),
            "{path}: {} {}",
            got.status,
            got.text
        );
    }
    let mut client = MachineClient::new(machine.connect(without_certificate()).await.unwrap());
    let mut request = Request::new(GetVersionRequest {});
    request.metadata_mut().insert("authorization", MetadataValue::try_from(bearer(TOKEN)).unwrap());
    assert_eq!(client.get_version(request).await.unwrap_err().code(), Code::Unauthenticated);
}

/// The machine API of a cluster's machine, and how somebody without a certificate gets there.
struct Served {
    address: SocketAddr,
    authority: String,
}

impl Served {
    async fn new(node: &Node) -> Result<Served> {
        node.happened(StageEvent::ConfigInForce);
        let own =
            until("the machine has its certificate", || async { Keyring::default().get(node, CertificateId::Machine).context("none yet") })
                .await?;
        let config = node.config().context("a config")?.config;
        let authority = config.cluster.certificate_authorities.machine.certificate.clone();
        let (sender, credentials) = watch::channel(Arc::new(tls::Credentials::mutual(&own, &authority, true)?));
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, api) = (listener.local_addr()?, harness::api(node));
        tokio::spawn(async move {
            let _sender = sender;
            serve(listener, credentials, api).await.expect("served");
        });
        Ok(Served { address, authority })
    }

    async fn scrape(&self, token: &str) -> Answer {
        let client = client_config(&[&TLS13], Trust::Of(self.authority.clone()), None);
        ask(self.address, client, "/metrics", &[("authorization", &bearer(token))]).await
    }
}

async fn account(admin: &Client) -> Result<Api<ServiceAccount>> {
    let (client, params) = (admin.kube().clone(), PostParams::default());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "monitoring" } }))?;
    Api::<Namespace>::all(client.clone()).create(&params, &namespace).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "monitoring");
    accounts.create(&params, &serde_json::from_value(json!({ "metadata": { "name": "prometheus" } }))?).await?;
    Ok(accounts)
}

/// A new one with each call.
async fn token(accounts: &Api<ServiceAccount>) -> Result<String> {
    let request =
        TokenRequest { spec: Some(TokenRequestSpec { expiration_seconds: Some(3600), ..Default::default() }), ..Default::default() };
    let answer = accounts.create_token_request("prometheus", &PostParams::default(), &request).await?;
    answer.status.and_then(|status| status.token).context("a token")
}

async fn grant(admin: &Client) -> Result<()> {
    let binding = json!({
        "metadata": { "name": "prometheus" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:monitoring" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": "monitoring", "name": "prometheus" }],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.kube().clone());
    Ok(bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await.map(drop)?)
}

#[test]
fn whoever_may_get_metrics_in_the_cluster_scrapes_by_a_token() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let (node, admin) = (&cluster.node, cluster.admin()?);
            let served = Served::new(node).await?;
            let accounts = account(&admin).await?;
            let good = token(&accounts).await?;
            let wrong = served.scrape(TOKEN).await;
            ensure!(wrong.status == 401 && wrong.headers.contains_key("www-authenticate"), "{} {}", wrong.status, wrong.text);
            let (head, tail) = good.split_at(good.len() - 8);
            let forged = served.scrape(&format!("{head}{}", tail.chars().rev().collect::<String>())).await;
            ensure!(forged.status == 401, "{} {}", forged.status, forged.text);

            let before = served.scrape(&good).await;
            ensure!(before.status == 403 && before.text.contains("system:serviceaccount:monitoring:prometheus"), "{}", before.text);
            grant(&admin).await?;
            let text = until("the right counts", || async {
                let got = served.scrape(&good).await;
                ensure!(got.status == 200, "{} {}", got.status, got.text);
                Ok(got.text)
            })
            .await?;
            ensure!(text.contains("pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"cart-1\"} 2.5\n"), "{text}");

            let unseen = token(&accounts).await?;
            kill(nix::unistd::Pid::from_raw(cluster.pid("kube-apiserver")?), Signal::SIGKILL)?;
            let unknown = until("the API server is gone", || async {
                let got = served.scrape(&unseen).await;
                ensure!(got.status != 200, "{}", got.text);
                Ok(got)
            })
            .await?;
            ensure!(unknown.status == 503 && !unknown.text.contains("container_"), "{} {}", unknown.status, unknown.text);

            let mut from = 0;
            while let Some(event) = node.events.next(from) {
                from = event.number + 1;
                let shown = [&good, &unseen, TOKEN].into_iter().any(|token| token.split('.').any(|part| event.message.contains(part)));
                ensure!(!shown, "a token is in {event:?}");
            }
            Ok(())
        },
    );
}
