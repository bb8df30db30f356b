//! `upgrade`: the image of an update file onto machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{ArgAction, Args};
use dashboard::times;
use prost_types::Timestamp;
use update::{Manifest, UpdateFile};

use crate::cli::World;
use crate::failure::Failure;
use crate::output::write;
use crate::swap::{self, Made, Olds, Update, Way, Wish};

/// Give machines a new image, which stays only if they prove good with it
///
/// The file is sent as far as a machine lacks it, and written beside the image that runs. The machine boots it, and falls back by itself,
/// image and config together, unless its checks pass. Machines are taken one after the other, control planes first, and the first that
/// falls back ends it.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Update files: corten-<version>-<profile>.update; of several, each machine takes the one of its profile
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Update file of the image that the machines run now: what they lack is sent as patches against it. Without it,
    /// corten-<version>-<profile>.update of the running version is looked for beside FILE. May be given several times
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
    /// Take a version that is lower than the running one
    #[arg(long)]
    allow_downgrade: bool,
    /// Take a version that failed on a machine before
    #[arg(long)]
    retry_failed: bool,
    /// Do not save etcd's data first. Where etcd does not answer, an upgrade is refused otherwise: this is the way to mend such a cluster by
    /// a new image, and the machine's record of the upgrade says so
    #[arg(long)]
    without_snapshot: bool,
    /// Keep EPHEMERAL (containers and their logs); it always is: see `machinectl reset --wipe ephemeral`
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        default_value_t = true,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        hide_possible_values = true
    )]
    preserve: bool,
    #[command(flatten)]
    way: Way,
}

impl Upgrade {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        if !self.preserve {
            let problem = "an upgrade never wipes EPHEMERAL: what it would have wiped could not be brought back by falling back";
            return Err(Failure::usage("--preserve=false", problem)
                .remedy("leave it out, and wipe after the upgrade with `machinectl reset --wipe ephemeral`"));
        }
        let open = |path: &PathBuf| UpdateFile::open(path).map_err(|error| Failure::of(path.display(), &error));
        let named = self.from.iter().map(|path| open(path).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mut updates: Vec<Arc<Update>> = Vec::new();
        for path in &self.files {
            let olds = Olds { named: named.clone(), folder: path.parent().unwrap_or(Path::new("")).to_owned() };
            let update = Update {
                file: open(path)?,
                olds,
                made: Made::default(),
                allow_downgrade: self.allow_downgrade,
                retry_failed: self.retry_failed,
                without_snapshot: self.without_snapshot,
            };
            if updates.iter().any(|other| other.profile() == update.profile()) {
                let problem = format!("a second update file for profile {}", update.profile());
                return Err(Failure::usage(path.display(), problem).remedy("name one for each profile"));
            }
            write(&description(update.file.manifest().peek()));
            updates.push(Arc::new(update));
        }
        swap::run(world, &Wish::Updates(updates), &self.way).await
    }
}

/// What the file says of itself; the machine verifies who signed it.
fn description(manifest: &Manifest) -> String {
    let built = times::shown(Some(&Timestamp { seconds: i64::try_from(manifest.built_at).unwrap_or_default(), nanos: 0 }));
    let kubernetes = manifest.kubernetes.as_ref().map(|version| format!(", Kubernetes v{version}")).unwrap_or_default();
    let mut text = format!(
        "Corten {} ({}, {}), kernel {}{kubernetes}, built {built}\n",
        manifest.version, manifest.profile, manifest.architecture, manifest.kernel_release
    );
    for line in manifest.release_notes.trim().lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text + "\n"
}
