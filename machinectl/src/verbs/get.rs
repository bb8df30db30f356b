//! `get`: resources of every kind.

use api::v1::watch_resources_response::Change;
use api::v1::{Column, GetResourceRequest, Kind, ListKindsRequest, ListResourcesRequest, Object, WatchResourcesRequest};
use clap::Args;
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Format, Output, Table, write};
use crate::session::Session;

/// Show resources: services, links, addresses, volumes, certificates and all else a machine wants and sees
#[derive(Debug, Args)]
pub struct Get {
    /// Kind, such as services; none: show the kinds
    kind: Option<String>,
    /// One object of it
    name: Option<String>,
    /// Go on and show changes
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// A kind, and objects of it on one machine.
#[derive(Debug)]
struct Listing {
    kind: Kind,
    objects: Vec<Object>,
}

impl Get {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Some(kind) = self.kind else { return kinds(world, self.output).await };
        if self.watch {
            return watch(world, &kind, self.name.as_deref(), self.output).await;
        }
        show(world, &kind, self.name.as_deref(), self.output).await
    }
}

/// Prints the objects of a kind, side by side for several machines.
pub async fn show(world: &World, kind: &str, name: Option<&str>, output: Output) -> Result<(), Failure> {
    let several = world.connection.count()? > 1;
    let answers = world.connection.each(QUICK, async |session| listing(&session, kind, name).await).await?;
    if !answers.done.is_empty() {
        output.print(|wide| table(&answers.done, several, wide), || values(&answers.done, name.is_some() && !several));
    }
    answers.outcome()
}

async fn listing(session: &Session, kind: &str, name: Option<&str>) -> Result<Listing, Failure> {
    let kind = find_kind(session, kind).await?;
    let mut client = session.resource();
    let objects = match name {
        None => session.ask(client.list(ListResourcesRequest { kind: kind.name.clone() })).await?.objects,
        Some(name) => {
            let request = GetResourceRequest { kind: kind.name.clone(), name: name.to_owned() };
            session.ask(client.get(request)).await?.object.into_iter().collect()
        }
    };
    Ok(Listing { kind, objects })
}

/// The kind of that name; one letter more or less than the plural is no obstacle (`service`).
async fn find_kind(session: &Session, name: &str) -> Result<Kind, Failure> {
    let kinds = session.ask(session.resource().list_kinds(ListKindsRequest {})).await?.kinds;
    let wanted = name.to_lowercase();
    let same = |kind: &&Kind| {
        let known = kind.name.to_lowercase();
        known == wanted || known.strip_suffix('s') == Some(&wanted) || known.strip_suffix("es") == Some(&wanted)
    };
    if let Some(kind) = kinds.iter().find(same) {
        return Ok(kind.clone());
    }
    let distance = |kind: &&Kind| strsim::damerau_levenshtein(&kind.name.to_lowercase(), &wanted);
    let nearest = kinds.iter().filter(|kind| distance(kind) <= 3).min_by_key(distance);
    let hint = nearest.map_or("see `machinectl get` for the kinds".to_owned(), |kind| format!("did you mean {}?", kind.name));
    Err(Failure::new(&session.node, format!("there is no kind {name:?}")).remedy(hint))
}

async fn kinds(world: &World, output: Output) -> Result<(), Failure> {
    let ask = async |session: Session| session.ask(session.resource().list_kinds(ListKindsRequest {})).await;
    let mut answers = world.connection.each(QUICK, ask).await?;
    // Machines of one release have the same kinds: one list says it.
    answers.done.truncate(1);
    if let Some((_, response)) = answers.done.first() {
        let table = |_| {
            let mut table = Table::new(&["KIND", "DESCRIPTION"]);
            response.kinds.iter().for_each(|kind| table.row([kind.name.clone(), kind.description.clone()]));
            table
        };
        output.print(table, || response.kinds.iter().map(|kind| json!({ "name": kind.name, "description": kind.description })).collect());
    }
    answers.outcome()
}

async fn watch(world: &World, kind: &str, name: Option<&str>, output: Output) -> Result<(), Failure> {
    let several = world.connection.count()? > 1;
    let follow = async |session: Session| {
        let kind = find_kind(&session, kind).await?;
        let request = WatchResourcesRequest { kind: kind.name.clone(), name: name.unwrap_or_default().to_owned() };
        let mut changes = session.ask(session.resource().watch(request)).await?;
        let (mut printed, mut first) = (Vec::new(), true);
        while let Some(change) = changes.next().await {
            let change = change.map_err(|status| session.failed(&status))?;
            let kind_of_change = change.change();
            printed.extend(change.object.map(|object| (kind_of_change, object)));
            // Up to the SYNCED mark the objects make one table; later each change is a row.
            if kind_of_change == Change::Synced || !first {
                print_changes(&session.node, &kind, &printed, several, first, output);
                (printed, first) = (Vec::new(), false);
            }
        }
        Err::<(), _>(Failure::new(&session.node, "the machine ended the watch").remedy("start it again"))
    };
    world.connection.each(None, follow).await?.outcome()
}

fn print_changes(node: &HostPort, kind: &Kind, changes: &[(Change, Object)], several: bool, headings: bool, output: Output) {
    if !output.is_table() {
        for (change, object) in changes {
            let mut value = value(node, object);
            value["change"] = (if *change == Change::Removed { "removed" } else { "put" }).into();
            write(&if output.format == Format::Json {
                format!("{value}\n")
            } else {
                format!("---\n{}", machine::config::yaml::print(&value))
            });
        }
        return;
    }
    let objects = changes.iter().map(|(_, object)| object.clone()).collect();
    let mut table = table(&[(node.clone(), Listing { kind: kind.clone(), objects })], several, output.format == Format::Wide);
    table.headings.insert(0, "CHANGE".to_owned());
    for (row, (change, _)) in table.rows.iter_mut().zip(changes) {
        row.insert(0, (if *change == Change::Removed { "removed" } else { "put" }).to_owned());
    }
    write(&table.render(headings));
}

fn table(listings: &[(HostPort, Listing)], several: bool, wide: bool) -> Table {
    let columns: &[Column] = listings.first().map_or(&[], |(_, listing)| &listing.kind.columns);
    let mut table = Table::default();
    table.headings.extend(several.then(|| "NODE".to_owned()));
    table.headings.push("NAME".to_owned());
    table.headings.extend(columns.iter().map(|column| column.heading.to_uppercase()));
    table.headings.extend(wide.then(|| "REVISION".to_owned()));
    for (node, listing) in listings {
        for object in &listing.objects {
            let value = value(node, object);
            let mut row: Vec<String> = several.then(|| node.to_string()).into_iter().collect();
            row.push(object.name.clone());
            row.extend(columns.iter().map(|column| cell(&value, &column.path)));
            row.extend(wide.then(|| object.revision.to_string()));
            table.rows.push(row);
        }
    }
    table
}

/// What the dotted path leads to, as a table shows it; lists with commas.
fn cell(object: &Value, path: &str) -> String {
    let found = path.split('.').try_fold(object, |value, step| match value {
        Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
        other => other.get(step),
    });
    found.map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

fn values(listings: &[(HostPort, Listing)], single: bool) -> Value {
    let mut all = listings.iter().flat_map(|(node, listing)| listing.objects.iter().map(|object| value(node, object)));
    if single { all.next().unwrap_or(Value::Null) } else { all.collect() }
}

fn value(node: &HostPort, object: &Object) -> Value {
    let part = |part: &Option<prost_types::Struct>| part.clone().map(|part| Value::Object(api::json::from_struct(part)));
    let mut value = json!({ "node": node.to_string(), "kind": object.kind, "name": object.name, "revision": object.revision });
    for (name, part) in [("spec", part(&object.spec)), ("status", part(&object.status))] {
        if let Some(part) = part {
            value[name] = part;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_what_the_path_leads_to() {
        let object =
            json!({ "status": { "state": "ready", "pid": 7, "after": ["etcd", "net"], "none": null, "parts": [{ "a": 1, "b": "x" }] } });
        for (path, expected) in [
            ("status.state", "ready"),
            ("status.pid", "7"),
            ("status.after", "etcd, net"),
            ("status.none", ""),
            ("status.missing.deeper", ""),
            ("status.parts.0", "a=1 b=x"),
            ("status.parts.0.b", "x"),
        ] {
            assert_eq!(cell(&object, path), expected, "{path}");
        }
    }
}
