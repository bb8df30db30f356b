//! Keeps containerd, the container runtime, as the machine config says.
//!
//! reads: machine config, volumes (EPHEMERAL), the root's image archives   writes: containerd's config, service containerd

mod plan;
mod render;

use std::sync::Arc;

use machine::config::Config;
use machine::disk::Volume;

use super::images;
use super::service::{Subject, Want};
use crate::node::Node;
use crate::resources::services;

pub const ID: &str = "containerd";

#[derive(Debug, Default)]
pub struct Containerd {
    pause: Option<String>,
}

#[derive(Debug)]
pub struct Inputs {
    root: machine::Root,
    config: Option<Arc<Config>>,
    /// Name of the image that holds a pod's namespaces.
    pause: String,
    ephemeral_open: bool,
}

impl Subject for Containerd {
    type Inputs = Inputs;
    const NAME: &'static str = ID;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Inputs> {
        // The root never changes while it runs.
        let pause = match &self.pause {
            Some(pause) => pause.clone(),
            None => self.pause.insert(images::pause(&node.root)?.name).clone(),
        };
        Ok(Inputs {
            root: node.root.clone(),
            config: node.config().map(|applied| applied.config),
            pause,
            ephemeral_open: services::is_open(&node.store, Volume::Ephemeral),
        })
    }

    fn want(inputs: &Inputs) -> anyhow::Result<Want> {
        plan::want(inputs)
    }
}

#[cfg(test)]
mod tests;
