//! What a machine is in its cluster, by its config.

use api::v1::{GetConfigRequest, GetVersionResponse};
use machine::config::{HostPort, Role, yaml};
use machine::stage::Stage;
use serde_json::Value;

use crate::connection::node;
use crate::failure::Failure;
use crate::session::Session;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    /// Machine APIs of control planes that the machine knows.
    pub control_planes: Vec<HostPort>,
}

impl Standing {
    /// Of a machine that has told what it runs.
    pub async fn ask(session: &Session, version: &GetVersionResponse) -> Result<Standing, Failure> {
        // Without a config that it could use it has no part in its cluster: its pods are gone, its etcd is away already.
        if version.stage == Stage::Recovery.name() {
            return Ok(Standing { role: Role::Worker, control_planes: Vec::new() });
        }
        let document = session.ask(session.config().get(GetConfigRequest { generation: None })).await?.document;
        // It may be another release's, so no more of it is read than is needed.
        let config = yaml::read_one(document, &session.node.to_string())?;
        Ok(Standing::of(&config.value()))
    }

    fn of(config: &Value) -> Standing {
        let role = if config["machine"]["role"] == "controlPlane" { Role::ControlPlane } else { Role::Worker };
        let named = config["cluster"]["controlPlanes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Standing { role, control_planes: named.filter_map(|text| node(text).ok()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn little_of_a_config_is_needed() {
        let cp = json!({ "machine": { "role": "controlPlane", "new": 1 }, "cluster": { "controlPlanes": ["192.0.2.1:50000", "?", 5] } });
        let first = node("192.0.2.1").expect("a node");
        assert_eq!(Standing::of(&cp), Standing { role: Role::ControlPlane, control_planes: vec![first] });
        assert_eq!(Standing::of(&json!({ "machine": null })), Standing { role: Role::Worker, control_planes: Vec::new() });
    }
}
