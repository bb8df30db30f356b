//! Text to [`Node`], by the events of the YAML parser.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_json::Number;

use super::{Content, Entry, MAX_BYTES, MAX_DEPTH, MAX_WEIGHT, Node};
use crate::config::report::{Path, Place, Problem, Report};

/// Reads a text that holds exactly one document.
pub fn read_one(text: impl AsRef<[u8]>, source: &str) -> Result<Node, Report> {
    let mut documents = read_all(text, source)?.into_iter();
    let fail = |place, found: &str, expected: &str, remedy: &str| {
        let problem = Problem::new(&Path::root(), found).expected(expected).remedy(remedy).at(place);
        Err(Report { source: source.to_owned(), problems: vec![problem] })
    };
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        (_, Some(second)) => fail(second.place, "a second document", "one document", "put each document in a file of its own"),
        (None, None) => fail(Place::default(), "an empty document", "a machine config", "begin with apiVersion and kind"),
    }
}

/// Reads a text that holds any number of documents; empty ones are left out.
pub fn read_all(text: impl AsRef<[u8]>, source: &str) -> Result<Vec<Node>, Report> {
    let fail = |problem| Report { source: source.to_owned(), problems: vec![problem] };
    let text = checked_text(text.as_ref()).map_err(fail)?;
    let mut options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);
    let mut reader = Reader::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| fail(syntax_problem(&error, text)))?;
        reader.take(event, &span).map_err(fail)?;
    }
    let Reader { documents, problems, .. } = reader;
    Report::of(source, problems)?;
    Ok(documents.into_iter().filter(|document| document.content != Content::Null).collect())
}

/// The bytes as text, with the size and the characters that YAML allows.
fn checked_text(bytes: &[u8]) -> Result<&str, Problem> {
    let root = Path::root();
    if bytes.len() > MAX_BYTES {
        return Err(Problem::new(&root, format!("{} bytes", bytes.len())).expected(format!("at most {MAX_BYTES} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let place = place_at(&bytes[..error.valid_up_to()]);
        Problem::new(&root, "bytes that are no UTF-8").expected("a text file in UTF-8").at(place)
    })?;
    let forbidden = |(_, c): &(usize, char)| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some((offset, c)) = text.char_indices().find(forbidden) {
        let place = place_at(&bytes[..offset]);
        let found = format!("the control character U+{:04X}", u32::from(c));
        return Err(Problem::new(&root, found).expected("a text file").remedy("write it as an escape in double quotes").at(place));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Where a text goes on after `before`.
fn place_at(before: &[u8]) -> Place {
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |position| position + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    Place { line, column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1 }
}

fn syntax_problem(error: &granit_parser::ScanError, text: &str) -> Problem {
    let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
    let problem = Problem::new(&Path::root(), format!("no valid YAML: {}", error.info())).at(place);
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    let indentation = &line[..line.len() - line.trim_start().len()];
    if indentation.contains('\t') { problem.remedy("indent with spaces: YAML allows no tabs there") } else { problem }
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

/// A list or map whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    children: Children,
}

enum Children {
    List(Vec<Node>),
    /// The entries, and the key that waits for its value.
    Map(Vec<Entry>, Option<(String, Place)>),
}

#[derive(Default)]
struct Reader {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    weight: usize,
    /// What is wrong and does not keep the rest from being read.
    problems: Vec<Problem>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let place = place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                if let Some(key) = self.awaited_key() {
                    *key = Some((text.into_owned(), place));
                    return Ok(());
                }
                let content = if style == ScalarStyle::Plain { resolve(&text) } else { Content::Text(text.into_owned()) };
                self.add(Node { place, content }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.begin(Open { place, anchor, children: Children::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.begin(Open { place, anchor, children: Children::Map(Vec::new(), None) })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.repeat(anchor, place),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The place for a key, where the next scalar is one.
    fn awaited_key(&mut self) -> Option<&mut Option<(String, Place)>> {
        match self.open.last_mut() {
            Some(Open { children: Children::Map(_, key @ None), .. }) => Some(key),
            _ => None,
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), Problem> {
        if self.awaited_key().is_some() {
            return Err(self.problem("a list or map as a key", open.place).expected("text"));
        }
        self.open.push(open);
        self.check_depth(self.open.len())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { place, anchor, children }) = self.open.pop() else { return Ok(()) };
        let content = match children {
            Children::List(items) => Content::List(items),
            Children::Map(entries, _) => Content::Map(entries),
        };
        self.add(Node { place, content }, anchor)
    }

    /// Puts in what an anchor named; the copy stands where the alias stands, so that messages point there.
    fn repeat(&mut self, anchor: usize, place: Place) -> Result<(), Problem> {
        if self.awaited_key().is_some() {
            return Err(self.problem("an alias as a key", place).expected("text"));
        }
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(self.problem("an alias inside of the value that it names", place));
        };
        let (weight, depth) = (weight(target), self.open.len() + depth(target));
        self.check_depth(depth)?;
        self.check_weight(weight, place)?;
        let content = self.anchors[&anchor].content.clone();
        self.place_node(Node { place, content })
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.check_weight(own_weight(&node), node.place)?;
        if anchor > 0 {
            self.check_weight(weight(&node), node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place_node(node)
    }

    fn place_node(&mut self, node: Node) -> Result<(), Problem> {
        let path = self.path();
        match self.open.last_mut().map(|open| &mut open.children) {
            None => self.documents.push(node),
            Some(Children::List(items)) => items.push(node),
            Some(Children::Map(entries, key)) => {
                let Some((key, place)) = key.take() else { return Ok(()) };
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    let found = format!("given twice, first in line {}", first.place.line);
                    self.problems.push(Problem::new(&path, found).remedy("remove one of them").at(place));
                } else {
                    entries.push(Entry { key, place, value: node });
                }
            }
        }
        Ok(())
    }

    /// Where the next value goes.
    fn path(&self) -> Path {
        self.open.iter().fold(Path::root(), |path, open| match &open.children {
            Children::List(items) => path.item(items.len()),
            Children::Map(_, Some((key, _))) => path.key(key),
            Children::Map(_, None) => path,
        })
    }

    fn problem(&self, found: &str, place: Place) -> Problem {
        Problem::new(&self.path(), found).at(place)
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if let Some(tag) = tag {
            let place = place(&span.tag_span().unwrap_or(*span));
            let problem = self.problem(&format!("the tag {:?}", tag.original()), place);
            self.problems.push(problem.remedy("remove it; put text in quotes to keep it text"));
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Problem> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        let place = self.open.last().map(|open| open.place).unwrap_or_default();
        Err(Problem::new(&Path::root(), "too deep a nesting").expected(format!("at most {MAX_DEPTH} levels")).at(place))
    }

    fn check_weight(&mut self, more: usize, place: Place) -> Result<(), Problem> {
        self.weight += more;
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        let problem = self.problem("too many values once aliases are resolved", place);
        Err(problem.expected(format!("at most {MAX_WEIGHT}")).remedy("use fewer aliases"))
    }
}

/// What a value costs in memory, children left out: one, and one for each 64 bytes of text.
fn own_weight(node: &Node) -> usize {
    1 + match &node.content {
        Content::Text(text) => text.len() / 64,
        Content::Map(entries) => entries.iter().map(|entry| entry.key.len() / 64).sum(),
        _ => 0,
    }
}

fn weight(node: &Node) -> usize {
    own_weight(node) + children(node).map(weight).sum::<usize>()
}

fn depth(node: &Node) -> usize {
    match node.content {
        Content::List(_) | Content::Map(_) => 1 + children(node).map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn children(node: &Node) -> impl Iterator<Item = &Node> {
    let (items, entries): (&[Node], &[Entry]) = match &node.content {
        Content::List(items) => (items, &[]),
        Content::Map(entries) => (&[], entries),
        _ => (&[], &[]),
    };
    items.iter().chain(entries.iter().map(|entry| &entry.value))
}

/// A plain scalar by the core schema of YAML 1.2 (chapter 10.3.2); infinities and NaN stay text, because JSON has none.
fn resolve(text: &str) -> Content {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" => return Content::Boolean(true),
        "false" | "False" | "FALSE" => return Content::Boolean(false),
        _ => {}
    }
    match number(text) {
        Some(number) => Content::Number(number, text.to_owned()),
        None => Content::Text(text.to_owned()),
    }
}

fn number(text: &str) -> Option<Number> {
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let legal = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            return if legal { u64::from_str_radix(digits, radix).ok().map(Number::from) } else { None };
        }
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let plausible = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+'));
    if !plausible {
        return None;
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let exact = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        if let Ok(number) = exact {
            return Some(number);
        }
    }
    text.parse::<f64>().ok().and_then(Number::from_f64)
}
