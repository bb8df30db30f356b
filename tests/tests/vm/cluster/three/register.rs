//! A register in the cluster, and what may be read from it. There is one client, and no two writes are alike, so that a history is linearizable
//! exactly if each read gives the last acknowledged write or one that was never answered, and such a one only once: it may still have been under way.

use std::collections::BTreeSet;

use anyhow::bail;
use tests::cluster::Cluster;

#[derive(Debug)]
pub struct Register {
    /// By its answer, or because it was read.
    acknowledged: u64,
    tried: u64,
    /// Writes without an answer.
    open: BTreeSet<u64>,
    /// What was read and may not have been there: no later read makes it good.
    violation: Option<String>,
}

const NAME: &str = "register";

impl Register {
    /// With 0 in it.
    pub fn new(cluster: &Cluster) -> anyhow::Result<Register> {
        let register = Register { acknowledged: 0, tried: 0, open: BTreeSet::new(), violation: None };
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
        if let Some(violation) = &self.violation {
            bail!("{violation}");
        }
        let text = cluster.kubectl(&["get", "configmap", NAME, "-o", "jsonpath={.data.value}", "--request-timeout=15s"])?;
        let (acknowledged, open) = (self.acknowledged, &mut self.open);
        match text.trim().parse() {
            Ok(value) if value == acknowledged || open.remove(&value) => {
                self.acknowledged = value;
                Ok(())
            }
            _ => {
                let violation = format!("history: read {text:?}; {acknowledged} was acknowledged, {open:?} never answered");
                bail!("{}", self.violation.insert(violation))
            }
        }
    }
}
