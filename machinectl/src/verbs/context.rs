//! `context`: which cluster, and as whom.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use controlplane::client_config::ClientConfig;
use serde_json::json;

use crate::cli::World;
use crate::failure::Failure;
use crate::files;
use crate::output::{Output, Table, write};

#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    List(List),
    Use(Use),
    Add(Add),
}

/// List the contexts
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
}

/// Make a context the current one
#[derive(Debug, Args)]
pub struct Use {
    name: String,
}

/// Take over the contexts of another client config, as `machinectl gen config` writes it
#[derive(Debug, Args)]
pub struct Add {
    file: PathBuf,
}

impl ContextVerb {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            ContextVerb::List(list) => list.run(world),
            ContextVerb::Use(select) => select.run(world),
            ContextVerb::Add(add) => add.run(world),
        }
    }
}

impl List {
    fn run(self, world: &World) -> Result<(), Failure> {
        let config = world.connection.client_config()?;
        let is_current = |name: &String| config.current.as_ref() == Some(name);
        let table = |_| {
            let mut table = Table::new(&["CURRENT", "NAME", "ENDPOINTS", "NODES"]);
            for (name, context) in &config.contexts {
                let current = if is_current(name) { "*" } else { "" };
                table.row([current.to_owned(), name.clone(), context.endpoints.join(", "), context.nodes.join(", ")]);
            }
            table
        };
        let values = || {
            let value = |(name, context): (&String, &controlplane::client_config::Context)| json!({ "name": name, "current": is_current(name), "endpoints": context.endpoints, "nodes": context.nodes });
            config.contexts.iter().map(value).collect()
        };
        self.output.print(table, values);
        Ok(())
    }
}

impl Use {
    fn run(self, world: &World) -> Result<(), Failure> {
        let mut config = world.connection.client_config()?;
        let path = world.connection.config_path();
        config.context(Some(&self.name)).map_err(|error| Failure::of(path.display(), &error))?;
        config.current = Some(self.name);
        save(world, &config)
    }
}

impl Add {
    fn run(self, world: &World) -> Result<(), Failure> {
        let text = files::read_text(&self.file)?;
        let new = ClientConfig::from_yaml(&text).map_err(|error| Failure::of(self.file.display(), &error))?;
        let mut config = if world.connection.config_path().exists() { world.connection.client_config()? } else { ClientConfig::default() };
        config.merge(new);
        save(world, &config)
    }
}

fn save(world: &World, config: &ClientConfig) -> Result<(), Failure> {
    let path = world.connection.config_path();
    let text = config.to_yaml().map_err(|error| Failure::of(path.display(), &error))?;
    files::write(&path, &text, files::SECRET)?;
    write(&format!("{}: current context is {}\n", path.display(), config.current.as_deref().unwrap_or("none")));
    Ok(())
}
