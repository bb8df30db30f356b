//! `files`: a machine's files, to look at.

use api::v1::{FileEntry, ListFilesRequest, ReadRequest};
use clap::{Args, Subcommand};
use dashboard::times;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::{QUICK, SLOW};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write_bytes};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Files {
    Ls(Ls),
    Cat(Cat),
}

/// List a directory
#[derive(Debug, Args)]
pub struct Ls {
    /// Absolute path
    #[arg(default_value = "/")]
    path: String,
    #[command(flatten)]
    output: Output,
}

/// Print a file
#[derive(Debug, Args)]
pub struct Cat {
    /// Absolute path
    path: String,
}

impl Files {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Files::Ls(ls) => ls.run(world).await,
            Files::Cat(cat) => cat.run(world).await,
        }
    }
}

impl Ls {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let list = async |session: Session| {
            let request = ListFilesRequest { path: self.path.clone() };
            let mut answers = session.ask(session.file().list(request)).await?;
            let mut entries = Vec::new();
            while let Some(answer) = answers.next().await {
                entries.extend(answer.map_err(|status| session.failed(&status))?.entry);
            }
            Ok(entries)
        };
        let entries = world.connection.one(QUICK, list).await?;
        self.output.print(|_| table(&entries), || entries.iter().map(value).collect());
        Ok(())
    }
}

impl Cat {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let read = async |session: Session| {
            let mut answers = session.ask(session.file().read(ReadRequest { path: self.path.clone() })).await?;
            while let Some(answer) = answers.next().await {
                write_bytes(&answer.map_err(|status| session.failed(&status))?.chunk);
            }
            Ok(())
        };
        world.connection.one(SLOW, read).await
    }
}

fn table(entries: &[FileEntry]) -> Table {
    let mut table = Table::new(&["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"]);
    for entry in entries {
        let name = if entry.target.is_empty() { entry.name.clone() } else { format!("{} -> {}", entry.name, entry.target) };
        let modified = times::shown(entry.modified_at.as_ref());
        table.row([permissions(entry.mode), entry.user_id.to_string(), entry.size_bytes.to_string(), modified, name]);
    }
    table
}

fn value(entry: &FileEntry) -> Value {
    json!({
        "name": entry.name,
        "mode": permissions(entry.mode),
        "userId": entry.user_id,
        "sizeBytes": entry.size_bytes,
        "modifiedAt": times::shown(entry.modified_at.as_ref()),
        "target": entry.target,
    })
}

/// `drwxr-xr-x`, as ls(1) shows type and permissions.
fn permissions(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let letters = ['r', 'w', 'x'];
    let bit = |index: usize| if mode & (0o400 >> index) != 0 { letters[index % 3] } else { '-' };
    std::iter::once(kind).chain((0..9).map(bit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_does() {
        assert_eq!(permissions(0o040_755), "drwxr-xr-x");
        assert_eq!(permissions(0o100_640), "-rw-r-----");
        assert_eq!(permissions(0o120_777), "lrwxrwxrwx");
    }
}
