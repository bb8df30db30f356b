//! A supervised program: its files, and its entry in init's service table. Each program's own folder says what it should be; how that is
//! brought about is the same for all and stands here.

mod apply;
mod plan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use controlplane::pki::CertificateId;
use machine::file::{self, File};
use machine::service::{ServiceId, ServiceSpec, ServiceStatus};
use tokio::time::Instant;

use super::pki;
use crate::controller::{Controller, Wake};
use crate::files;
use crate::node::Node;
use crate::plan::{Missing, Plan};
pub use apply::remove;
pub use plan::{Action, Present};

/// What should be of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// It cannot be said before these are there. What runs goes on as it is.
    Waiting(Vec<Missing>),
    /// This machine does not run it.
    Absent(ServiceId),
    Running(Box<Program>),
}

/// A program with everything that it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub files: Vec<File>,
    pub spec: ServiceSpec,
}

impl From<controlplane::Rendered> for Program {
    fn from(rendered: controlplane::Rendered) -> Program {
        Program { files: rendered.files, spec: rendered.service }
    }
}

impl Program {
    /// A program that is restarted when any of its files changes.
    pub fn new(files: Vec<File>, mut spec: ServiceSpec) -> Program {
        spec.files_digest = file::digest(&files);
        Program { files, spec }
    }

    /// Adds files that the program reads again by itself when they change.
    pub fn rereading(mut self, files: impl IntoIterator<Item = File>) -> Program {
        self.files.extend(files);
        self
    }
}

/// One program: what it should be, given a snapshot of what that hangs on.
pub trait Subject: std::fmt::Debug + Send + Sync + 'static {
    type Inputs: Send + Sync;
    const NAME: &'static str;
    /// What the program reads of its machine's certificates. Where their authority is followed by another, it is left as it is until it has those
    /// of the new one: it is restarted once, and then uses them.
    const CERTIFICATES: &'static [CertificateId] = &[];

    fn observe(&mut self, node: &Node) -> impl Future<Output = anyhow::Result<Self::Inputs>> + Send;

    fn want(inputs: &Self::Inputs) -> anyhow::Result<Want>;
}

/// The controller of a program.
#[derive(Debug, Default)]
pub struct Supervised<S> {
    subject: S,
    /// The program whose files were seen to be as wanted, and when.
    verified: Option<(Program, Instant)>,
}

/// How long files that were seen to be as wanted are taken to be so: nobody but the agent writes them.
const VERIFIED_FOR: Duration = Duration::from_secs(25);

#[derive(Debug)]
pub struct Seen {
    want: Want,
    present: Present,
}

impl Seen {
    /// What should be of the program.
    pub fn want(&self) -> &Want {
        &self.want
    }
}

impl<S: Subject> Controller for Supervised<S> {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = S::NAME;
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let want = match (S::want(&self.subject.observe(node).await?)?, pki::overtaken(node, S::CERTIFICATES)) {
            (Want::Running(_), missing) if !missing.is_empty() => Want::Waiting(missing),
            (want, _) => want,
        };
        let present = match &want {
            Want::Waiting(_) => Present::default(),
            Want::Absent(id) => present(node, id, Vec::new()),
            Want::Running(program) => present(node, &program.spec.id, self.stale(program)),
        };
        Ok(Seen { want, present })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(&seen.want, &seen.present)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(action, node).await
    }
}

impl<S> Supervised<S> {
    /// Of the program's files, those that are not on the disk as wanted.
    fn stale(&mut self, program: &Program) -> Vec<File> {
        if self.verified.as_ref().is_some_and(|(verified, at)| verified == program && at.elapsed() < VERIFIED_FOR) {
            return Vec::new();
        }
        let stale: Vec<File> = program.files.iter().filter(|file| !files::matches(file)).cloned().collect();
        self.verified = stale.is_empty().then(|| (program.clone(), Instant::now()));
        stale
    }
}

fn present(node: &Node, id: &ServiceId, stale: Vec<File>) -> Present {
    Present { stale, put: node.store.get::<ServiceSpec>(id.as_str()), known: node.store.get::<ServiceStatus>(id.as_str()).is_some() }
}

/// A service's name that stands in this source. The test below makes each of them once.
pub fn id(name: &'static str) -> anyhow::Result<ServiceId> {
    Ok(ServiceId::new(name)?)
}

/// The whole environment of a program of the image.
pub fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin".to_owned())])
}

/// Programs come back at once the first time and soon enough later on.
pub fn always() -> machine::service::Restart {
    machine::service::Restart {
        policy: machine::service::RestartPolicy::Always,
        backoff_min: Duration::from_millis(500),
        backoff_max: Duration::from_secs(30),
    }
}

/// A program of the image as a service's spec names it.
pub fn program(name: &str) -> PathBuf {
    PathBuf::from("/usr/bin").join(name)
}
