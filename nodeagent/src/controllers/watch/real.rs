//! What a real API server makes of it.

use http::Request;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use serde_json::json;

use super::*;
use crate::controllers::real_cluster::RealCluster;

/// Waits for what changes of this object.
async fn next_of(changes: &mut BoxStream<'static, anyhow::Result<Change<Namespace>>>, name: &str) -> anyhow::Result<&'static str> {
    while let Some(change) = changes.try_next().await? {
        let (what, object) = match change {
            Change::Added(object) => ("added", object),
            Change::Modified(object) => ("modified", object),
            Change::Deleted(object) => ("deleted", object),
        };
        if object.metadata.name.as_deref() == Some(name) {
            return Ok(what);
        }
    }
    anyhow::bail!("the watch has ended")
}

fn names(objects: &[Namespace]) -> Vec<&str> {
    objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect()
}

#[test]
fn a_list_and_its_changes_come_in_one_stream_that_is_packed() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let client = cluster.admin()?;
            let api: Api<Namespace> = Api::all(client.kube().clone());
            let namespace = |name: &str| json!({ "metadata": { "name": name } });
            cluster.create::<Namespace>(&client, namespace("one")).await?;
            let (listed, mut changes) = streamed::streamed(&api, "").await?.context("this server knows no such streams")?;
            assert!(names(&listed).contains(&"one") && names(&listed).contains(&"kube-system"), "{:?}", names(&listed));
            let (only, mut of_one) = all_and_changes(&api, "metadata.name=one").await?;
            assert_eq!(names(&only), ["one"]);

            cluster.create::<Namespace>(&client, namespace("two")).await?;
            assert_eq!(next_of(&mut changes, "two").await?, "added");
            for name in ["two", "one"] {
                let label = json!({ "metadata": { "labels": { "a": "b" } } });
                api.patch(name, &PatchParams::default(), &Patch::Merge(label)).await?;
            }
            assert_eq!(next_of(&mut changes, "two").await?, "modified");
            let Some(Change::Modified(first)) = of_one.try_next().await? else { anyhow::bail!("no change of `one`") };
            assert_eq!(names(&[first]), ["one"]);

            let question = Request::get(uri(api.resource_url(), "")).header("accept-encoding", "gzip").body(Body::empty())?;
            let answer = client.kube().send(question).await?;
            assert_eq!(answer.headers().get("content-encoding").map(|encoding| encoding.as_bytes()), Some(&b"gzip"[..]));
            Ok(())
        },
    );
}
