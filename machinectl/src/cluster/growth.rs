//! From a machine that boots to one that serves: founding a cluster, and joining it.

use std::time::Duration;

use api::v1::{ApplyRequest, BootstrapRequest, GetKubeconfigRequest, GetVersionRequest};
use controlplane::client_config::Context;
use machine::config::HostPort;
use testbed::Machine;

use super::configs;
use super::fingerprint;
use super::state::{Folder, KUBECONFIG, Member, Record};
use super::waiting::{Deadline, Wait};
use crate::connection::{self, Answers};
use crate::failure::Failure;
use crate::files;
use crate::progress::Progress;
use crate::session::{Dialer, Session};
use crate::tls::{Fingerprint, Trust};
use crate::verbs::health::{last_report, summary};

/// Shares of the whole time that a command has.
const MAINTENANCE: Duration = Duration::from_secs(5 * 60);
const CONFIGURED: Duration = Duration::from_secs(5 * 60);
const HEALTHY: Duration = Duration::from_secs(10 * 60);
/// Kept back of the wait for health, so that the machine's last word on it is heard before the wait ends.
const LAST_WORD: Duration = Duration::from_secs(5);
/// For how long one try reaches out for the machine; the wait around it tries again.
const PATIENCE: Duration = Duration::from_secs(2);

/// A machine on its way into the cluster.
#[derive(Debug)]
pub struct Growth<'a> {
    pub folder: &'a Folder,
    pub record: &'a Record,
    pub progress: &'a Progress,
    pub deadline: Deadline,
    pub member: &'a Member,
    pub machine: &'a Machine,
}

impl Growth<'_> {
    /// The first control plane: from it on there is a cluster.
    pub async fn found(&self) -> Result<(), Failure> {
        self.configure(true).await?;
        let (node, context) = (node(self.member)?, configs::context(self.folder)?);
        let ask = async || {
            let session = cluster_session(&context, &node).await?;
            session.ask(session.machine().get_version(GetVersionRequest {})).await?;
            session.ask(session.cluster().bootstrap(BootstrapRequest { dry_run: false })).await
        };
        self.wait("to take its role and bootstrap", CONFIGURED, ask).await?;
        self.done("bootstrapped the cluster");
        self.healthy().await?;

        let ask = async || {
            let session = cluster_session(&context, &node).await?;
            session.ask(session.cluster().get_kubeconfig(GetKubeconfigRequest { valid_for: None })).await
        };
        let response = self.wait("to give a kubeconfig", CONFIGURED, ask).await?;
        files::write(&self.folder.path(KUBECONFIG), &response.kubeconfig, files::SECRET)?;
        self.progress.done(&format!("kubeconfig: {}", self.folder.path(KUBECONFIG).display()));
        Ok(())
    }

    /// A further machine, into a cluster that is there.
    pub async fn join(&self) -> Result<(), Failure> {
        self.configure(false).await?;
        self.healthy().await
    }

    async fn configure(&self, founds: bool) -> Result<(), Failure> {
        let node = node(self.member)?;
        let ask = async || maintenance_session(self.machine, &node).await;
        let session = self.wait("to answer in maintenance", MAINTENANCE, ask).await?;
        self.done("is in maintenance");
        let document = configs::of(self.folder, self.record, self.member, founds)?;
        // Once the config is there the machine asks for certificates: a repeated call in maintenance would be refused, so this is one call.
        let request = ApplyRequest { document: document.into_bytes(), dry_run: false, revert_after: None };
        session.ask(session.config().apply(request)).await?;
        self.done("has its config");
        Ok(())
    }

    /// All its checks pass: its Node is Ready among them.
    pub async fn healthy(&self) -> Result<(), Failure> {
        let (node, context) = (node(self.member)?, configs::context(self.folder)?);
        let patience = self.deadline.left(HEALTHY).saturating_sub(LAST_WORD);
        let ask = async || {
            let session = cluster_session(&context, &node).await?;
            let report = last_report(&session, Some(patience), self.progress).await?;
            if report.healthy { Ok(()) } else { Err(Failure::new(&session.node, summary(&report))) }
        };
        self.wait("to be healthy", HEALTHY, ask).await?;
        self.done("is healthy");
        Ok(())
    }

    async fn wait<T>(&self, what: &str, share: Duration, attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let what = format!("{} {what}", self.member.name());
        let wait = Wait { machine: self.machine, progress: self.progress, what: &what, deadline: self.deadline.left(share) };
        wait.until(attempt).await
    }

    fn done(&self, what: &str) {
        self.progress.done(&format!("{} {what}", self.member.name()));
    }
}

/// A member's machine API, from here.
pub fn node(member: &Member) -> Result<HostPort, Failure> {
    let address = member.forwarded(api::PORT).ok_or_else(|| Failure::new(member.name(), "its machine API is not forwarded"))?;
    connection::node(&address).map_err(|error| Failure::new(member.name(), error))
}

/// What became of each machine.
pub fn answers<'a>(names: impl IntoIterator<Item = &'a String>, outcomes: Vec<Result<(), Failure>>) -> Answers<(), String> {
    let mut answers = Answers { done: Vec::new(), failed: Vec::new() };
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => answers.done.push((name.clone(), ())),
            Err(failure) => answers.failed.push(failure),
        }
    }
    answers
}

/// Connects to the machine that the console speaks of, and sees that it answers.
async fn maintenance_session(machine: &Machine, node: &HostPort) -> Result<Session, Failure> {
    let console = machine.console();
    let none = || Failure::new(console.path().display(), "no fingerprint on the console yet");
    let shown: Fingerprint = fingerprint::shown(&console.text()?).ok_or_else(none)?;
    let dialer = Dialer { trust: Trust::Maintenance(Some(shown)), server_name: None, patience: PATIENCE };
    let session = dialer.connect(node).await?;
    session.ask(session.machine().get_version(GetVersionRequest {})).await?;
    Ok(session)
}

/// As the cluster's administrator.
pub async fn cluster_session(context: &Context, node: &HostPort) -> Result<Session, Failure> {
    let dialer = Dialer { trust: Trust::Cluster(Box::new(context.clone())), server_name: None, patience: PATIENCE };
    dialer.connect(node).await
}
