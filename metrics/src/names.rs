//! What pods and containers are called. The kernel knows uids and ids alone; the container runtime knows the names.

use std::collections::HashMap;

use crate::place::Place;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// By the pod's uid.
    pub pods: HashMap<String, Pod>,
    /// By the container's id, sandboxes among them.
    pub containers: HashMap<String, Container>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Empty for a pod's sandbox.
    pub name: String,
    pub image: String,
    /// Whether it is a pod's sandbox, which stands in the network of the pod and has nothing else.
    pub is_sandbox: bool,
}

/// All that a place is called; what is not known, or does not apply, is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Called<'a> {
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    pub image: &'a str,
    /// The container's id.
    pub id: &'a str,
}

impl Names {
    pub fn of<'a>(&'a self, place: &'a Place) -> Called<'a> {
        let pod = place.pod_uid().and_then(|uid| self.pods.get(&**uid));
        let id = match place {
            Place::Container(_, _, id) => id,
            _ => "",
        };
        let container = self.containers.get(id);
        Called {
            namespace: pod.map_or("", |pod| &pod.namespace),
            pod: pod.map_or("", |pod| &pod.name),
            container: container.map_or("", |container| &container.name),
            image: container.map_or("", |container| &container.image),
            id,
        }
    }

    /// Whether the container of this id is a pod's sandbox; `None` where that is not known.
    pub fn is_sandbox(&self, id: &str) -> Option<bool> {
        self.containers.get(id).map(|container| container.is_sandbox)
    }

    /// Whether the place has a name that is not known yet.
    pub fn lacks(&self, place: &Place) -> bool {
        match place {
            Place::Pod(_, uid) => !self.pods.contains_key(&**uid),
            Place::Container(_, _, id) => !self.containers.contains_key(&**id),
            _ => false,
        }
    }
}
