//! What containerd should be.

use std::time::Duration;

use machine::account::Account;
use machine::service::*;

use super::{ID, Inputs, render};
use crate::controllers::machine::missing;
use crate::controllers::service::{self, Program, Want};

pub fn want(inputs: &Inputs) -> anyhow::Result<Want> {
    let Some(config) = inputs.config.as_ref().filter(|_| inputs.ephemeral_open) else {
        return Ok(Want::Waiting(missing([(inputs.config.is_some(), "machine config"), (inputs.ephemeral_open, "volume ephemeral")])));
    };
    let config_file = render::config(&inputs.root, config, &inputs.pause)?;
    let spec = ServiceSpec {
        id: service::id(ID)?,
        program: service::program("containerd"),
        args: vec!["--config".to_owned(), config_file.path.display().to_string()],
        environment: service::environment(),
        account: Account::Root,
        capabilities: Capabilities::All,
        no_new_privileges: false,
        // What it mounts for containers has to be seen by the kubelet and by the containers of others.
        filesystem: Filesystem::Host,
        slice: Slice::Podruntime,
        resources: Resources { cpu_weight: Some(200), ..Resources::default() },
        open_files: 1_048_576,
        oom_score_adjust: -999,
        after: Vec::new(),
        readiness: Readiness::Notify,
        restart: service::always(),
        // The shims, and with them the pods, outlive it.
        stop: Stop { deadline: Duration::from_secs(30), whole: StopScope::MainProcess },
        files_digest: String::new(),
    };
    Ok(Want::Running(Box::new(Program::new(vec![config_file], spec))))
}
