//! A machine config file as it was given: every value with its line and column, its form already checked.

use serde_json::Value;

use super::document::{API_VERSION, Document, KIND};
use super::report::{Path, Place, Problem, Report};
use super::schema::document_schema;
use super::structure;
use super::upstream;
use super::version;
use super::yaml::{self, Content, Node};

/// One machine config document whose fields and types are right.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    tree: Node,
}

impl Source {
    /// Reads a text of at most 1 MiB; `name` is what messages call it.
    pub fn read(text: impl AsRef<[u8]>, name: &str) -> Result<Source, Report> {
        let tree = version::forward(yaml::read_one(text, name)?);
        Report::of(name, header_problems(&tree))?;
        let mut problems = structure::check(&tree, document_schema(), &Path::root());
        problems.extend(upstream::check(&tree));
        Report::of(name, problems)?;
        Ok(Source { name: name.to_owned(), tree })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was given, in its own order and without defaults.
    pub fn value(&self) -> Value {
        self.tree.value()
    }

    pub fn document(&self) -> Result<Document, Report> {
        serde_json::from_value(self.value()).map_err(|error| {
            let problem = Problem::new(&Path::root(), error.to_string()).at(self.tree.place);
            Report { source: self.name.clone(), problems: vec![problem] }
        })
    }

    pub(super) fn place_of(&self, path: &Path) -> Place {
        self.tree.place_of(path)
    }
}

/// Version and kind come first: under another version every other message would mislead.
fn header_problems(tree: &Node) -> Vec<Problem> {
    if !matches!(tree.content, Content::Map(_)) {
        let remedy = format!("begin with apiVersion: {API_VERSION} and kind: {KIND}");
        return vec![Problem::new(&Path::root(), tree.content.kind()).expected("a machine config").remedy(remedy).at(tree.place)];
    }
    let fields = [("apiVersion", API_VERSION), ("kind", KIND)];
    fields.into_iter().filter_map(|(field, only)| header_problem(tree, field, only)).collect()
}

fn header_problem(tree: &Node, field: &str, only: &str) -> Option<Problem> {
    let path = Path::of(field);
    let place = tree.place_of(&path);
    let text = match tree.get(field).map(|node| &node.content) {
        None => return Some(Problem::new(&path, "missing field").expected(only).remedy(format!("add {field}: {only}")).at(place)),
        Some(Content::Text(text)) if text == only => return None,
        Some(Content::Text(text)) => text,
        Some(other) => return Some(Problem::new(&path, other.kind()).expected(only).at(place)),
    };
    let problem = Problem::new(&path, structure::quoted(text)).expected(only).at(place);
    Some(if field == "apiVersion" && version::is_of_ours(text) {
        problem.remedy("it is of a newer release: upgrade first, or write the config for this one")
    } else {
        problem
    })
}
