//! Which requests are granted.

use std::collections::BTreeMap;

use controlplane::manifests::AGENTS;
use controlplane::pki::{AGENT_USER_PREFIX, NODE_USER_PREFIX, NODES, San, SigningRequest, node_user};

use super::Machines;
use crate::admission::decide::MachineRecord;
use crate::plan::Plan;
use crate::resources::signing_requests::PendingRequest;

pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

#[derive(Debug, Default)]
pub struct Seen {
    pub pending: BTreeMap<String, PendingRequest>,
    /// Those that filed them, as far as they have joined.
    pub machines: Machines,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub name: String,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Approve,
    Deny(String),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let decide = |(name, request): (&String, &PendingRequest)| {
        let verdict = judge(request, &seen.machines).map_or_else(Verdict::Deny, |()| Verdict::Approve);
        Action { name: name.clone(), verdict }
    };
    Plan::from_actions(seen.pending.iter().map(decide).collect())
}

/// Name of the node whose agent or kubelet this user is.
pub fn requester(user: &str) -> Option<&str> {
    user.strip_prefix(AGENT_USER_PREFIX).or_else(|| user.strip_prefix(NODE_USER_PREFIX))
}

fn judge(request: &PendingRequest, machines: &Machines) -> Result<(), String> {
    let (prefix, group, usage) = match request.signer.as_str() {
        CLIENT_SIGNER => (AGENT_USER_PREFIX, AGENTS, "client auth"),
        SERVING_SIGNER => (NODE_USER_PREFIX, NODES, "server auth"),
        other => return Err(format!("signer {other} is none of kubelets")),
    };
    let node = request.user.strip_prefix(prefix).filter(|_| request.groups.iter().any(|name| name == group));
    let node = node.ok_or_else(|| format!("user {} may not ask for it; expected {prefix}<node> of group {group}", request.user))?;
    let machine = machines.get(node).ok_or_else(|| format!("the cluster has no record that machine {node} joined"))?;
    if machine.revoked {
        return Err(format!("machine {node} is revoked"));
    }
    let allowed = ["digital signature", "key encipherment", usage];
    if let Some(other) = request.usages.iter().find(|usage| !allowed.contains(&usage.as_str())) {
        return Err(format!("usage {other}; expected digital signature and {usage}"));
    }
    let asked = SigningRequest::inspect(&request.request).map_err(|error| error.to_string())?;
    names(&asked, machine, request.signer == SERVING_SIGNER)
}

fn names(asked: &SigningRequest, machine: &MachineRecord, serving: bool) -> Result<(), String> {
    let user = node_user(&machine.node);
    if asked.common_name != user || asked.organizations != [NODES] {
        let organizations = asked.organizations.join(", ");
        return Err(format!("subject {} of {organizations}; expected {user} of {NODES}", asked.common_name));
    }
    if let Some(oddity) = asked.oddities.first() {
        return Err(format!("{oddity}; expected none"));
    }
    if asked.sans.is_empty() == serving {
        return Err("a kubelet's server has names and addresses, and its client none".to_owned());
    }
    let proved = |san: &San| match san {
        San::Dns(name) => *name == machine.node,
        San::Ip(address) => machine.addresses.contains(address),
    };
    match asked.sans.iter().find(|san| !proved(san) && !San::loopback().contains(san)) {
        Some(san) => Err(format!("machine {} did not prove {san} when it joined", machine.node)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
