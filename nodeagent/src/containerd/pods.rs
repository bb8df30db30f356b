//! What the runtime's pods and containers are called, by the kubelet's interface to it (CRI v1).

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use metrics::Names;
use metrics::names;
use prost::Message;
use tonic::Status;
use tonic::transport::Channel;

use super::cri::{Metadata, ask};

/// The label by which the kubelet finds its containers again (k8s.io/cri-api, pkg/kubelet/types/labels.go).
const CONTAINER_NAME: &str = "io.kubernetes.container.name";

// Of k8s.io/cri-api's runtime/v1/api.proto, the fields that are read here.

#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct Sandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
    /// As the pod's manifest has it.
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

/// All pods and containers that the runtime has, those that have ended among them. The runtime does not tell of a sandbox of which image it is:
/// it is the machine's, for all of them.
pub async fn names(socket: &Path, sandbox_image: &str) -> anyhow::Result<Names> {
    let channel = super::connect(socket).await?.channel();
    let sandboxes = list_sandboxes(&channel).await?;
    let containers: Result<Containers, Status> = ask(&channel, "ListContainers", ()).await;
    Ok(joined(sandboxes, containers.context("listing containers")?.containers, sandbox_image))
}

/// Pods by the id of their sandbox: namespace and name.
pub async fn sandboxes(socket: &Path) -> anyhow::Result<HashMap<String, (String, String)>> {
    let sandboxes = list_sandboxes(&super::connect(socket).await?.channel()).await?.into_iter();
    Ok(sandboxes.filter_map(|sandbox| Some((sandbox.id, sandbox.metadata.map(|pod| (pod.namespace, pod.name))?))).collect())
}

async fn list_sandboxes(channel: &Channel) -> anyhow::Result<Vec<Sandbox>> {
    let sandboxes: Result<Sandboxes, Status> = ask(channel, "ListPodSandbox", ()).await;
    Ok(sandboxes.context("listing the pods' sandboxes")?.items)
}

fn joined(sandboxes: Vec<Sandbox>, containers: Vec<Container>, sandbox_image: &str) -> Names {
    let mut names = Names::default();
    for sandbox in sandboxes {
        let container = names::Container { image: sandbox_image.to_owned(), is_sandbox: true, ..names::Container::default() };
        names.containers.insert(sandbox.id, container);
        if let Some(Metadata { name, uid, namespace }) = sandbox.metadata {
            names.pods.insert(uid, names::Pod { namespace, name });
        }
    }
    for mut container in containers {
        let image = container.image.unwrap_or_default();
        let image = [image.user_specified_image, image.image, container.image_ref].into_iter().find(|image| !image.is_empty());
        let name = container.labels.remove(CONTAINER_NAME).unwrap_or_default();
        names.containers.insert(container.id, names::Container { name, image: image.unwrap_or_default(), is_sandbox: false });
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_the_name_that_the_kubelet_gave_and_sandboxes_none() {
        let metadata = Metadata { name: "cart-1".to_owned(), uid: "u1".to_owned(), namespace: "shop".to_owned() };
        let sandbox = Sandbox { id: "s1".to_owned(), metadata: Some(metadata) };
        let image = Image { image: "sha256:1".to_owned(), user_specified_image: "cart:1".to_owned() };
        let labels = [(CONTAINER_NAME.to_owned(), "cart".to_owned())].into();
        let container = Container { id: "c1".to_owned(), image: Some(image), image_ref: String::new(), labels };
        let names = joined(vec![sandbox], vec![container], "pause:1");
        assert_eq!(names.pods["u1"], names::Pod { namespace: "shop".to_owned(), name: "cart-1".to_owned() });
        assert_eq!(names.containers["c1"], names::Container { name: "cart".to_owned(), image: "cart:1".to_owned(), is_sandbox: false });
        assert_eq!(names.is_sandbox("s1"), Some(true));
        assert_eq!(names.containers["s1"].image, "pause:1");
        assert_eq!((names.is_sandbox("c1"), names.is_sandbox("c2")), (Some(false), None));
    }
}
