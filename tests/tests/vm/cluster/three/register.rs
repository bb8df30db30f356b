//! A register in the cluster, and what may be read from it. There is one client, and no two writes are alike, so that a history is linearizable
//! exactly if each read gives the last acknowledged write or one that was never answered, and such a one only once: it may still have been under way.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use tests::cluster::Cluster;

#[derive(Debug)]
pub struct Register {
    /// By its answer, or because it was read.
    acknowledged: u64,
    tried: u64,
    /// Writes without an answer.
    open: BTreeSet<u64>,
}

const NAME: &str = "register";

impl Register {
    /// With 0 in it.
    pub fn new(cluster: &Cluster) -> anyhow::Result<Register> {
        let register = Register { acknowledged: 0, tried: 0, open: BTreeSet::new() };
        cluster.kubectl(&["delete", "configmap", NAME, "--ignore-not-found"])?;
        cluster.kubectl(&["create", "configmap", NAME, "--from-literal=value=0"])?;
        Ok(register)
    }

    /// One more than was ever tried.
    pub fn write(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        self.tried += 1;
        self.open.insert(self.tried);
        let patch = format!("{{\"data\":{{\"value\":\"{}\"}}}}", self.tried);
        cluster.kubectl(&["patch", "configmap", NAME, "--type=merge", "-p", &patch, "--request-timeout=15s"])?;
        self.open.remove(&self.tried);
        self.acknowledged = self.tried;
        Ok(())
    }

    /// Whether what is read may be there.
    pub fn read(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let text = cluster.kubectl(&["get", "configmap", NAME, "-o", "jsonpath={.data.value}", "--request-timeout=15s"])?;
        let value: u64 = text.trim().parse().with_context(|| format!("history: the register holds {text:?}"))?;
        let (acknowledged, open) = (self.acknowledged, &self.open);
        ensure!(
            value == acknowledged || open.contains(&value),
            "history: read {value}; {acknowledged} was acknowledged, {open:?} never answered"
        );
        self.open.remove(&value);
        self.acknowledged = value;
        Ok(())
    }
}
