//! `image-build components`: builds the upstream parts of a node from the Go modules pinned under `components/`.
//! Only what is stale is built; `build/components/<component>/bin/` is what images are made from.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;

mod compile;
mod data;
mod inspect;
mod key;
pub mod module;
mod progress;
pub mod record;
mod store;
pub mod table;
mod toolchain;

use progress::{Detail, Progress};
use record::{RECORD, Record};
use store::Store;
use table::Component;
use toolchain::Go;

/// Builds the upstream components that are stale.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Folder with components.toml and one Go module per component
    #[arg(long, value_name = "DIR", default_value = "components")]
    from: PathBuf,
    /// Folder that receives <component>/bin, <component>/data and <component>/component.json
    #[arg(long, value_name = "DIR", default_value = "build/components")]
    out: PathBuf,
    /// Build this component alone; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Compilers that run at once [default: one per processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// A component with everything that its key is made of.
struct Wanted {
    component: Component,
    folder: PathBuf,
    version: String,
    key: String,
}

/// Brings the chosen components up to date. `quiet`: says nothing but errors.
pub fn run(args: &Args, quiet: bool) -> Result<()> {
    let detail = Detail::choose(quiet);
    let chosen = choose(table::load(&args.from.join("components.toml"))?.components, &args.only)?;
    let go = Go::find()?;
    // All keys come first, so that a missing tool or an old Go ends the run before minutes of compiling.
    let wanted = chosen.into_iter().map(|component| prepare(component, &args.from, &go)).collect::<Result<Vec<_>>>()?;
    let store = Store::open(&args.out)?;
    let total = wanted.len();
    for (index, wanted) in wanted.iter().enumerate() {
        let name = &wanted.component.name;
        match store.find(name, &wanted.key) {
            Some(_) => progress::fresh(detail, index + 1, total, name, &wanted.version),
            None => {
                let progress = Progress::start(detail, index + 1, total, name, &wanted.version);
                let record = build(wanted, &store, &go, args.jobs, &progress)?;
                progress.done(record.files.iter().map(|file| file.bytes).sum());
            }
        }
        store.point(name, &wanted.key)?;
    }
    Ok(())
}

/// The components of the table that `only` names; all when it names none.
fn choose(components: Vec<Component>, only: &[String]) -> Result<Vec<Component>> {
    let names: Vec<&str> = components.iter().map(|component| component.name.as_str()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("--only {unknown}: no such component; expected one of {}", names.join(", "));
    }
    Ok(components.into_iter().filter(|component| only.is_empty() || only.contains(&component.name)).collect())
}

fn prepare(component: Component, from: &Path, go: &Go) -> Result<Wanted> {
    let folder = from.join(&component.name);
    let folder = folder.canonicalize().with_context(|| format!("component {}: opening {}", component.name, folder.display()))?;
    let sources = key::sources(&folder)?;
    let path = folder.join("go.mod");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let go_mod = module::parse(&text, &component.module).with_context(|| format!("in {}", path.display()))?;
    go.check(&go_mod.go).with_context(|| format!("component {}", component.name))?;
    let key = key::key(&key::Inputs {
        entry: serde_json::to_string(&component).context("serialising the table's entry")?,
        go: go.banner.clone(),
        arch: go.settings.goarch.clone(),
        native: toolchain::native(&component)?,
        sources,
    });
    Ok(Wanted { component, folder, version: go_mod.version, key })
}

/// Builds into a staging folder and keeps it only when everything in it is there.
fn build(wanted: &Wanted, store: &Store, go: &Go, jobs: Option<NonZeroUsize>, progress: &Progress) -> Result<Record> {
    let name = &wanted.component.name;
    let staged = store.stage(name)?;
    let bin = staged.path().join("bin");
    std::fs::create_dir(&bin).with_context(|| format!("making {}", bin.display()))?;
    compile::compile(&wanted.component, &wanted.version, &wanted.folder, &bin, jobs.map(NonZeroUsize::get), progress)?;
    data::lay(&wanted.component, &wanted.version, &go.settings.gomodcache, &staged.path().join(data::FOLDER))?;
    let record = inspect::inspect(&wanted.component, &wanted.version, &wanted.key, &wanted.folder, &bin, go)?;
    record.write(&staged.path().join(RECORD))?;
    store.keep(name, &wanted.key, staged)?;
    Ok(record)
}
