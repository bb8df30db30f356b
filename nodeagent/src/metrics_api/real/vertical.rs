//! Upstream's vertical pod autoscaler, `components/vpa`: its recommender with the roles and kinds that it brings along, and nothing of ours but the
//! metrics API.

use std::process::Command;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use machine::config::Manifest;

use super::*;
use crate::components::component;
use crate::controllers::program::Program;

const GIB: u64 = 1 << 30;

/// What upstream has its users apply, as manifests of the machine config.
fn manifests() -> Result<Vec<Manifest>> {
    let manifest = |name: &str, file: &str| -> Result<Manifest> {
        let contents = fs::read_to_string(component("vpa/data").join(file)).with_context(|| format!("reading {file}"))?;
        Ok(Manifest { name: name.to_owned(), contents })
    };
    Ok(vec![manifest("vpa-kinds", "vpa-v1-crd-gen.yaml")?, manifest("vpa-roles", "vpa-rbac.yaml")?])
}

#[test]
fn a_vertical_pod_autoscaler_recommends_what_pods_use() {
    RealCluster::run(
        |config| config.cluster.manifests.extend(manifests().unwrap()),
        async |cluster| {
            let admin = cluster.admin()?;
            cluster.register(&admin, NODE, NODE_ADDRESS, json!({})).await?;
            let (pod, uid) = running_pod(&admin, "web").await?;
            // No agent reads anything of this one.
            running_pod(&admin, "silent").await?;
            let (files, _) = run_agent(cluster, &uid)?;
            tokio::spawn(half_a_cpu(files, Instant::now(), |_| GIB));
            are_available(&admin).await?;
            // Its histogram keeps for days what it has once been told.
            half_a_cpu_is_told(&admin, &pod).await?;

            for name in ["web", "silent"] {
                autoscale(&admin, name).await?;
            }
            let began = Instant::now();
            let recommender = recommender(cluster)?;
            until("the autoscaler recommends what the pod uses", || async {
                recommends_what_the_pod_uses(&admin).await.with_context(|| recommender.log())
            })
            .await?;
            eprintln!("the recommender has it {:?} after it began", began.elapsed());
            nothing_is_made_up(&admin).await
        },
    );
}

/// Without its own account's roles it would be refused the metrics.
fn recommender(cluster: &RealCluster) -> Result<Program> {
    let who = CertificateRequest {
        common_name: "system:serviceaccount:kube-system:vpa-recommender".to_owned(),
        organization: Some("system:serviceaccounts".to_owned()),
        sans: Vec::new(),
        usage: KeyUsage::Client,
        lifetime: Duration::from_secs(3600),
    };
    let directory = tempfile::tempdir()?;
    let access = directory.path().join("kubeconfig");
    fs::write(&access, cluster.kubeconfig_of(&who, "https://127.0.0.1:6443")?)?;
    let mut command = Command::new(component("vpa/bin/vpa-recommender"));
    command.arg(format!("--kubeconfig={}", access.display())).arg("--recommender-interval=1s").env_clear();
    Program::start(&mut command, directory)
}

fn autoscalers(admin: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("autoscaling.k8s.io", "v1", kind));
    Api::namespaced_with(admin.kube().clone(), "default", &kind)
}

async fn autoscale(admin: &Client, deployment: &str) -> Result<()> {
    let autoscaler = json!({
        "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": { "name": deployment },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment },
            "updatePolicy": { "updateMode": "Off" },
        },
    });
    let all = autoscalers(admin, "VerticalPodAutoscaler");
    let apply = PatchParams::apply("user");
    until("the kind is served", || async { Ok(all.patch(deployment, &apply, &Patch::Apply(&autoscaler)).await.map(drop)?) }).await
}

/// The status of an autoscaler.
async fn told(admin: &Client, name: &str) -> Result<Value> {
    Ok(autoscalers(admin, "VerticalPodAutoscaler").get(name).await?.data["status"].take())
}

/// Of the samples of its only container that the recommender keeps.
async fn samples(admin: &Client, name: &str) -> Result<u64> {
    let kept = autoscalers(admin, "VerticalPodAutoscalerCheckpoint").get_opt(&format!("{name}-app")).await?;
    Ok(kept.and_then(|kept| kept.data["status"]["totalSamplesCount"].as_u64()).unwrap_or(0))
}

fn amount(recommendation: &Value, what: &str, resource: &str) -> Result<f64> {
    let text = recommendation[what][resource].as_str().with_context(|| format!("no {what} of {resource}: {recommendation}"))?;
    extender::quantity::parse(text).with_context(|| format!("{what} of {resource}: {text}"))
}

/// Upstream's defaults: the ninetieth percentile, rounded up to the end of a bucket 5 % wide, and 15 % on top. With nothing to go by, it would be 25m
/// and 250Mi.
async fn recommends_what_the_pod_uses(admin: &Client) -> Result<()> {
    let status = told(admin, "web").await?;
    let provided = |one: &Value| one["type"] == "RecommendationProvided" && one["status"] == "True";
    ensure!(status["conditions"].as_array().is_some_and(|all| all.iter().any(provided)), "{status}");
    let app = &status["recommendation"]["containerRecommendations"][0];
    ensure!(app["containerName"] == "app", "{status}");
    // An average of a few seconds is not half of a CPU to the millisecond.
    ensure!((0.5..0.75).contains(&amount(app, "target", "cpu")?), "{status}");
    let memory = amount(app, "target", "memory")? / GIB as f64;
    ensure!((1.15..1.15 * 1.06).contains(&memory), "{status}");
    for resource in ["cpu", "memory"] {
        let target = amount(app, "target", resource)?;
        ensure!((amount(app, "lowerBound", resource)?..=amount(app, "upperBound", resource)?).contains(&target), "{status}");
    }
    let samples = samples(admin, "web").await?;
    ensure!(samples >= 5, "{samples} samples");
    Ok(())
}

/// Where the API tells nothing of a pod, its autoscaler has nothing to go by but upstream's minimum.
async fn nothing_is_made_up(admin: &Client) -> Result<()> {
    let (status, samples) = (told(admin, "silent").await?, samples(admin, "silent").await?);
    let cpu = amount(&status["recommendation"]["containerRecommendations"][0], "target", "cpu")?;
    ensure!(samples == 0 && cpu < 0.1, "{samples} samples, {status}");
    Ok(())
}
