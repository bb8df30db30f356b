//! What containers have written into file systems of their own, by the kubelet's interface to the runtime (CRI v1).

use std::path::Path;

use anyhow::Context;
use prost::Message;
use tonic::Status;

use super::cri::ask;

/// A container's own layer, which lies over those of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The container's id.
    pub container: String,
    /// Where the file system is mounted on which the layer lies, or a directory on it.
    pub directory: String,
    pub bytes: u64,
}

// Of k8s.io/cri-api's runtime/v1/api.proto, the fields that are read here.

#[derive(Clone, PartialEq, Message)]
struct AllStats {
    #[prost(message, repeated, tag = "1")]
    stats: Vec<Stats>,
}

#[derive(Clone, PartialEq, Message)]
struct Stats {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
    #[prost(message, optional, tag = "4")]
    writable_layer: Option<FilesystemUsage>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct FilesystemUsage {
    #[prost(message, optional, tag = "2")]
    fs_id: Option<FilesystemIdentifier>,
    /// A wrapper (google.protobuf.UInt64Value).
    #[prost(message, optional, tag = "3")]
    used_bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct FilesystemIdentifier {
    #[prost(string, tag = "1")]
    mountpoint: String,
}

/// Of all containers of which the runtime has counted it; it counts every few seconds.
pub async fn layers(socket: &Path) -> anyhow::Result<Vec<Layer>> {
    let channel = super::connect(socket).await?.channel();
    let all: Result<AllStats, Status> = ask(&channel, "ListContainerStats", ()).await;
    Ok(all.context("listing what containers use")?.stats.into_iter().filter_map(layer).collect())
}

fn layer(stats: Stats) -> Option<Layer> {
    let written = stats.writable_layer?;
    let directory = written.fs_id.map(|on| on.mountpoint).unwrap_or_default();
    Some(Layer { container: stats.attributes?.id, directory, bytes: written.used_bytes? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_yet_is_not_told() {
        let attributes = Some(Attributes { id: "c1".to_owned() });
        let fs_id = Some(FilesystemIdentifier { mountpoint: "/var/lib/containerd".to_owned() });
        let counted = FilesystemUsage { fs_id, used_bytes: Some(4096) };
        let stats = |writable_layer| Stats { attributes: attributes.clone(), writable_layer };
        let expected = Layer { container: "c1".to_owned(), directory: "/var/lib/containerd".to_owned(), bytes: 4096 };
        assert_eq!(layer(stats(Some(counted.clone()))), Some(expected));
        assert_eq!(layer(stats(Some(FilesystemUsage { used_bytes: None, ..counted }))), None);
        assert_eq!(layer(stats(None)), None);
    }
}
