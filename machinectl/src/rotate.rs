//! Has a new authority take an old one's place on all machines of a cluster, without a moment at which one of them does not trust another: all
//! accept both, then all have certificates of the new one, then the old one goes.
//!
//! Nothing is kept of how far it got: the secrets file holds the new authority, and each machine's config says what it accepts and issues from.
//! Run again after a cut, it goes on from there.

mod documents;
mod machines;
mod safe;
mod succession;

use std::time::Duration;

use clap::ValueEnum;
use controlplane::pki::AuthorityId;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::Failure;
use crate::output::{Output, Table, tell, write};
use crate::progress::Progress;
use documents::Keys;
use machines::{Fleet, Machine};
use safe::Safe;
use succession::{Step, next};

/// Workers that are changed at a time.
const WORKERS_AT_ONCE: usize = 8;

/// What the user wants.
#[derive(Debug)]
pub struct Wish {
    pub authority: AuthorityId,
    pub secrets: std::path::PathBuf,
    pub dry_run: bool,
    pub yes: bool,
    pub until: Option<Until>,
    /// Names of machines that are left out.
    pub without: Vec<String>,
    /// How long a machine may take to follow.
    pub wait: Duration,
    pub output: Output,
}

/// After which step to stop, to go on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// All machines accept the new authority
    Accept,
    /// All machines have certificates of the new one, and accept the old one still
    Issue,
}

impl Until {
    fn forbids(self, step: Step) -> bool {
        match self {
            Until::Accept => step > Step::Accept,
            Until::Issue => step > Step::Issue,
        }
    }
}

pub async fn run(world: &World, wish: &Wish) -> Result<(), Failure> {
    let mut safe = Safe::open(world, wish)?;
    if safe.is_under_way() && !wish.dry_run {
        // Machines may show certificates of the new authority already.
        safe.prepare(Step::Accept)?;
    }
    let fleet = Fleet::of(world, wish).await?;
    let machines = fleet.look(&safe).await?;
    if wish.output.is_table() {
        write(&plan(wish, &safe, &machines));
    }
    if wish.dry_run {
        report(wish, &safe, &machines);
        return Ok(());
    }
    if !(wish.yes || confirmed("Go on?")?) {
        return Ok(());
    }
    let progress = Progress::waiting(world.quiet);
    if !safe.is_under_way() {
        safe.make()?;
        progress.done(&format!("{}: has {}", wish.secrets.display(), safe.new_name()));
    }
    let stopped = loop {
        let machines = fleet.look(&safe).await?;
        let Some(step) = next(machines.iter().map(|machine| machine.standing)) else { break false };
        // Where a machine does not follow what it has, no further step is taken.
        fleet.followed(&machines, &safe, &progress).await?;
        if step > Step::Accept {
            // Those that a cut left a step ahead may not see of the cluster what they wait for before the others follow.
            let behind: Vec<Machine> = machines.iter().filter(|machine| machine.standing == step.from()).cloned().collect();
            fleet.cluster_followed(&behind, &progress).await?;
        }
        if wish.until.is_some_and(|until| until.forbids(step)) {
            break true;
        }
        safe.prepare(step)?;
        take(step, &fleet, &machines, &safe, &progress).await?;
    };
    if !stopped {
        let machines = fleet.look(&safe).await?;
        fleet.followed(&machines, &safe, &progress).await?;
        fleet.cluster_followed(&machines, &progress).await?;
        safe.finish()?;
        progress.done(&format!("{}: has {} alone", wish.secrets.display(), safe.new_name()));
    }
    drop(progress);
    report(wish, &safe, &fleet.look(&safe).await?);
    if !world.quiet && wish.output.is_table() {
        notes(wish, stopped);
    }
    Ok(())
}

/// One step on all machines that have not taken it: control planes one after the other, since some steps restart etcd and API servers; the one
/// whose config brings the keys first, since the others get them from it.
async fn take(step: Step, fleet: &Fleet<'_>, machines: &[Machine], safe: &Safe, progress: &Progress) -> Result<(), Failure> {
    let due = || machines.iter().filter(|machine| machine.standing == step.from());
    let mut control_planes: Vec<&Machine> = due().filter(|machine| machine.control_plane).collect();
    control_planes.sort_by_key(|machine| !documents::has_keys(&machine.document));
    let keyless = !machines.iter().any(|machine| machine.control_plane && documents::has_keys(&machine.document));
    for (index, machine) in control_planes.iter().enumerate() {
        // Whoever made the cluster is gone: from now on another one's config brings the keys.
        let keys = if step == Step::Issue && keyless && index == 0 { Keys::All } else { Keys::AsTheyAre };
        one(step, keys, fleet, machine, safe, progress).await?;
    }
    let workers: Vec<&Machine> = due().filter(|machine| !machine.control_plane).collect();
    for group in workers.chunks(WORKERS_AT_ONCE) {
        let done = join_all(group.iter().map(|machine| one(step, Keys::AsTheyAre, fleet, machine, safe, progress))).await;
        let failures: Vec<Failure> = done.into_iter().filter_map(Result::err).collect();
        if !failures.is_empty() {
            return Err(Failure::all(failures));
        }
    }
    Ok(())
}

async fn one(step: Step, keys: Keys, fleet: &Fleet<'_>, machine: &Machine, safe: &Safe, progress: &Progress) -> Result<(), Failure> {
    let document = documents::after(step, &machine.document, keys, safe).map_err(|problem| Failure::new(&machine.node, problem))?;
    progress.wait_for(format!("{}: {}", machine.name, step.doing(&safe.new_name())));
    let changed = fleet.apply(machine, document, safe).await?;
    fleet.followed(std::slice::from_ref(&changed), safe, progress).await?;
    progress.done(&format!("{}: {}", machine.name, step.done(&safe.new_name())));
    Ok(())
}

/// What will be done, in words.
fn plan(wish: &Wish, safe: &Safe, machines: &[Machine]) -> String {
    let name = safe.new_name();
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&format!("{words}\n"));
    if !safe.is_under_way() {
        line(format!("make authority {} anew, as {name:?}, and keep it in {}", wish.authority, wish.secrets.display()));
    }
    for step in Step::ALL {
        let due: Vec<&str> =
            machines.iter().filter(|machine| machine.standing <= step.from()).map(|machine| machine.name.as_str()).collect();
        if !due.is_empty() && !wish.until.is_some_and(|until| until.forbids(step)) {
            line(format!("{}: {}", due.join(", "), step.doing(&name)));
        }
    }
    let alone = machines.iter().filter(|machine| machine.control_plane).count() == 1;
    match wish.authority {
        AuthorityId::EtcdPeer | AuthorityId::EtcdClient if alone => {
            line("with one control plane, the Kubernetes API is away for some seconds at each step: etcd is restarted".to_owned());
        }
        AuthorityId::Kubelet if alone => {
            line("with one control plane, the Kubernetes API is away for some seconds at each step: it is restarted".to_owned());
        }
        AuthorityId::Kubernetes => line(
            "pods that were started before all accept the new authority know the old one only, until they are restarted: \
             stop with --until accept to do that in between"
                .to_owned(),
        ),
        AuthorityId::Machine => line(
            "client configs of others stop working at the last step: have --until issue, and give them new ones with machinectl gen client"
                .to_owned(),
        ),
        _ => {}
    }
    text
}

/// Where the machines stand.
fn report(wish: &Wish, safe: &Safe, machines: &[Machine]) {
    let table = |_| {
        let mut table = Table::new(&["NODE", "ROLE", "STANDS", "ACCEPTS", "WAITS FOR"]);
        for machine in machines {
            table.row([
                machine.name.clone(),
                machine.role().to_owned(),
                machine.standing.word().to_owned(),
                machine.authority.accepts.join(", "),
                machine.authority.waits_for.join(", "),
            ]);
        }
        table
    };
    let value = |machine: &Machine| {
        json!({
            "name": machine.name,
            "node": machine.node.to_string(),
            "role": machine.role(),
            "standing": machine.standing.word(),
            "fingerprints": machine.authority.fingerprints,
            "waitsFor": machine.authority.waits_for,
        })
    };
    let values = || {
        let standing = next(machines.iter().map(|machine| machine.standing));
        json!({
            "authority": wish.authority.name(),
            "new": safe.new_name(),
            "next": standing.map_or(Value::Null, |step| json!(step.word())),
            "machines": machines.iter().map(value).collect::<Vec<_>>(),
        })
    };
    wish.output.print(table, values);
}

/// What is left to people.
fn notes(wish: &Wish, stopped: bool) {
    if stopped {
        return tell(&format!("go on with: machinectl rotate ca {} --with-secrets {}", wish.authority, wish.secrets.display()));
    }
    match wish.authority {
        AuthorityId::Kubernetes => tell("kubeconfigs of people end with the old authority: make them anew with machinectl kubeconfig"),
        AuthorityId::Machine => tell("client configs of others end with the old authority: make them anew with machinectl gen client"),
        _ => {}
    }
}
