//! What network policies speak of: namespaces, pods and policies, each as small as it goes, since every machine holds those of all.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::spec::Policy;

/// A string that many objects share.
pub type Word = Arc<str>;

/// Keeps each string once.
#[derive(Debug, Default)]
pub struct Words(HashSet<Word>);

impl Words {
    pub fn get(&mut self, text: &str) -> Word {
        if let Some(word) = self.0.get(text) {
            return word.clone();
        }
        let word = Word::from(text);
        self.0.insert(word.clone());
        word
    }

    /// Forgets those that nobody has any more.
    pub fn tidy(&mut self) {
        self.0.retain(|word| Arc::strong_count(word) > 1);
    }
}

/// In the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Word, Word)]>);

impl Labels {
    pub fn new(words: &mut Words, labels: &BTreeMap<String, String>) -> Labels {
        Labels(labels.iter().map(|(key, value)| (words.get(key), words.get(value))).collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(found, _)| (**found).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// As the API spells it; none is TCP (NetworkPolicyPort.protocol, ContainerPort.protocol).
    pub fn read(name: Option<&str>) -> Option<Protocol> {
        match name {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// As nft spells it.
    pub fn nft(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// As IP has it.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A port of a container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    pub name: Word,
    pub protocol: Protocol,
    pub number: u16,
}

/// A pod with a network of its own that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub node: Word,
    pub labels: Labels,
    /// None before its network is there.
    pub addresses: Box<[IpAddr]>,
    pub ports: Box<[NamedPort]>,
}

/// Objects by namespace and name.
pub type ByName<T> = BTreeMap<Word, BTreeMap<Word, Arc<T>>>;

#[derive(Debug, Clone, Default)]
pub struct Cluster {
    pub namespaces: BTreeMap<Word, Labels>,
    pub pods: ByName<Pod>,
    pub policies: ByName<Policy>,
    /// Addresses of this machine's pods, as its runtime knows them: sooner than the API server, and better.
    pub here: BTreeMap<(Word, Word), Box<[IpAddr]>>,
}

impl Cluster {
    /// Puts a pod; whether that changed anything.
    pub fn put_pod(&mut self, namespace: Word, name: Word, mut pod: Pod) -> bool {
        if let Some(addresses) = self.here.get(&(namespace.clone(), name.clone())) {
            pod.addresses.clone_from(addresses);
        }
        put(&mut self.pods, namespace, name, pod)
    }

    /// Takes note of where this machine's pods are; whether that changed anything.
    pub fn locate(&mut self, here: BTreeMap<(Word, Word), Box<[IpAddr]>>) -> bool {
        self.here = here;
        let mut changed = false;
        for ((namespace, name), addresses) in &self.here {
            let Some(pod) = self.pods.get_mut(namespace).and_then(|pods| pods.get_mut(name)) else { continue };
            if pod.addresses != *addresses {
                *pod = Arc::new(Pod { addresses: addresses.clone(), ..(**pod).clone() });
                changed = true;
            }
        }
        changed
    }
}

/// Puts an object; whether that changed anything.
pub fn put<T: PartialEq>(objects: &mut ByName<T>, namespace: Word, name: Word, object: T) -> bool {
    let there = objects.entry(namespace).or_default();
    if there.get(&name).is_some_and(|known| **known == object) {
        return false;
    }
    there.insert(name, Arc::new(object));
    true
}

/// Takes an object away; whether it was there.
pub fn remove<T>(objects: &mut ByName<T>, namespace: &str, name: &str) -> bool {
    let Some(there) = objects.get_mut(namespace) else { return false };
    let gone = there.remove(name).is_some();
    if there.is_empty() {
        objects.remove(namespace);
    }
    gone
}
