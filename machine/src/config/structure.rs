//! Holds a tree of YAML against a schema: unknown and missing fields, wrong types, and texts that are no address, network, duration or
//! size. Whatever passes here decodes into the typed document.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address_range::AddressRange;
use super::report::{Path, Place, Problem};
use super::schema::{Schema, Shape};
use super::value::{ByteSize, Duration};
use super::yaml::{Content, Entry, Node};

/// Everything that is wrong with `node`, which stands at `path`.
pub fn check(node: &Node, schema: Schema<'_>, path: &Path) -> Vec<Problem> {
    let mut walk = Walk { problems: Vec::new() };
    walk.value(node, schema, path, node.place);
    walk.problems
}

/// The known name that a reader most likely meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let scored = known.map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate));
    scored.filter(|(score, _)| *score > 0.84).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}

struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    /// `place` is where a reader looks for the value: at its key.
    fn value(&mut self, node: &Node, schema: Schema<'_>, path: &Path, place: Place) {
        match (schema.shape(), &node.content) {
            (Shape::Any, _) | (Shape::Boolean, Content::Boolean(_)) | (Shape::Number, Content::Number(..)) => {}
            (Shape::Text { format }, Content::Text(text)) => {
                if let Some(expected) = misfit(format, text) {
                    self.add(Problem::new(path, found(node, schema)).expected(expected).at(node.place));
                }
            }
            (Shape::Choice(texts), Content::Text(text)) => {
                if !texts.contains(&text.as_str()) {
                    let problem = Problem::new(path, found(node, schema)).expected(one_of(&texts)).at(node.place);
                    self.add(suggest(problem, nearest(text, texts.iter().copied())));
                }
            }
            (Shape::Integer { least, most }, Content::Number(number, _)) if !number.is_f64() => {
                let value = number.as_i64();
                let fits = value.is_some_and(|value| least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most));
                if !fits {
                    self.add(Problem::new(path, found(node, schema)).expected(expected(schema)).at(node.place));
                }
            }
            (Shape::List(items), Content::List(nodes)) => {
                for (index, item) in nodes.iter().enumerate() {
                    self.value(item, items, &path.item(index), item.place);
                }
            }
            (Shape::Map(values), Content::Map(entries)) => {
                for entry in entries {
                    self.value(&entry.value, values, &path.key(&entry.key), entry.place);
                }
            }
            (Shape::Fields, Content::Map(entries)) => self.fields(entries, schema, path, place),
            (Shape::AnyOf(choices), _) => {
                if choices.iter().all(|choice| !check(node, *choice, path).is_empty()) {
                    self.add(Problem::new(path, found(node, schema)).expected(expected(schema)).at(node.place));
                }
            }
            _ => self.add(wrong_type(node, schema, path)),
        }
    }

    fn fields(&mut self, entries: &[Entry], schema: Schema<'_>, path: &Path, place: Place) {
        // A field that was given under a wrong name is not missing as well.
        let mut given: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        for entry in entries {
            let here = path.key(&entry.key);
            let Some(field) = schema.field(&entry.key) else {
                let meant = nearest(&entry.key, schema.fields().map(|(known, _)| known));
                given.extend(meant);
                self.add(unknown_field(&here, &entry.key, meant, schema).at(entry.place));
                continue;
            };
            self.value(&entry.value, field, &here, entry.place);
        }
        for name in schema.required().filter(|name| !given.contains(name)) {
            let what = schema.field(name).map(expected).unwrap_or_default();
            self.add(Problem::new(&path.key(name), "missing field").expected(what).at(place));
        }
    }

    fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

fn unknown_field(path: &Path, name: &str, meant: Option<&str>, schema: Schema<'_>) -> Problem {
    let problem = Problem::new(path, "unknown field");
    if name == "<<" {
        return problem.remedy("write the fields out: merge keys are not supported");
    }
    match meant {
        Some(known) => suggest(problem, Some(known)),
        None => problem.expected(match schema.fields().map(|(known, _)| known).collect::<Vec<_>>() {
            // KubeletConfiguration has 130 fields: a list of them is no answer.
            known if known.len() > 24 => "a field of that name that upstream knows".to_owned(),
            known => one_of(&known),
        }),
    }
}

fn suggest(problem: Problem, known: Option<&str>) -> Problem {
    match known {
        Some(known) => problem.remedy(format!("did you mean {known:?}?")),
        None => problem,
    }
}

fn wrong_type(node: &Node, schema: Schema<'_>, path: &Path) -> Problem {
    let problem = Problem::new(path, found(node, schema)).expected(expected(schema)).at(node.place);
    match (schema.shape(), &node.content) {
        (_, Content::Null) => problem.remedy("give it a value or remove the field"),
        (Shape::Text { format }, Content::Number(..) | Content::Boolean(_)) => match raw(node) {
            Some(raw) if misfit(format, &raw).is_some() => problem,
            Some(raw) if !schema.is_secret() => problem.remedy(format!("put it in quotes: \"{raw}\"")),
            _ => problem.remedy("put it in quotes"),
        },
        (Shape::Integer { .. } | Shape::Number, Content::Text(text)) if text.parse::<i64>().is_ok() => problem.remedy("remove the quotes"),
        (Shape::Boolean, Content::Text(text)) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => problem.remedy("write true"),
            "false" | "no" | "off" => problem.remedy("write false"),
            _ => problem,
        },
        (Shape::List(_), Content::Text(_) | Content::Number(..) | Content::Map(_)) => {
            problem.remedy("write it as an item of a list: - ...")
        }
        _ => problem,
    }
}

/// What stands there, in words; of a secret its kind alone.
fn found(node: &Node, schema: Schema<'_>) -> String {
    let kind = node.content.kind();
    match (&node.content, raw(node)) {
        (Content::Text(text), _) if !schema.is_secret() => quoted(text),
        (Content::Number(..) | Content::Boolean(_), Some(raw)) if !schema.is_secret() => format!("{} {raw}", kind.trim_start_matches("a ")),
        _ => kind.to_owned(),
    }
}

/// A text in quotes, cut to what fits in a message.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn raw(node: &Node) -> Option<String> {
    match &node.content {
        Content::Number(_, raw) => Some(raw.clone()),
        Content::Boolean(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}

fn one_of(texts: &[&str]) -> String {
    match texts {
        [only] => only.to_string(),
        texts => format!("one of {}", texts.join(", ")),
    }
}

/// What a schema asks for, in words.
fn expected(schema: Schema<'_>) -> String {
    match schema.shape() {
        Shape::Any => "anything".to_owned(),
        Shape::Text { format } => format_in_words(format).to_owned(),
        Shape::Boolean => "true or false".to_owned(),
        Shape::Integer { least: Some(least), most: Some(most) } => format!("a whole number from {least} to {most}"),
        Shape::Integer { .. } => "a whole number".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Map(_) => "a map".to_owned(),
        Shape::Fields => {
            let names: Vec<&str> = schema.fields().map(|(name, _)| name).collect();
            if names.len() > 8 { "a map of fields".to_owned() } else { format!("a map of the fields {}", names.join(", ")) }
        }
        Shape::Choice(texts) => one_of(&texts),
        Shape::AnyOf(choices) => choices.into_iter().map(expected).collect::<Vec<_>>().join(" or "),
    }
}

fn format_in_words(format: &str) -> &'static str {
    match format {
        "ip" => "an address, such as 192.0.2.10 or 2001:db8::10",
        "cidr" => "a network or an address with its prefix length, such as 192.0.2.0/24",
        "addressrange" => "addresses of one family, such as 192.0.2.10-192.0.2.20, 2001:db8::/124 or 192.0.2.7",
        "timespan" => "a duration: a whole number and a unit, such as 500ms, 10s, 15m, 6h or 7d",
        "bytesize" => "a size: a whole number of bytes, or one with KiB, MiB, GiB or TiB, such as 20GiB",
        "go-duration" => "a duration as Kubernetes writes it, such as 10s, 1m30s or 500ms",
        _ => "text",
    }
}

/// What was expected, where a text is not of its format.
fn misfit(format: &str, text: &str) -> Option<&'static str> {
    let fits = match format {
        "ip" => text.parse::<IpAddr>().is_ok(),
        "cidr" => text.parse::<IpNet>().is_ok(),
        "addressrange" => text.parse::<AddressRange>().is_ok(),
        "timespan" => text.parse::<Duration>().is_ok(),
        "bytesize" => text.parse::<ByteSize>().is_ok(),
        "go-duration" => is_go_duration(text),
        _ => true,
    };
    (!fits).then(|| format_in_words(format))
}

/// Go's `time.ParseDuration`: `0`, or numbers with units, each with an optional fraction.
fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let unit = ["ns", "us", "µs", "ms", "s", "m", "h"].into_iter().find(|unit| {
            let after = rest[number..].strip_prefix(unit);
            after.is_some_and(|after| after.is_empty() || after.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
        });
        match unit {
            Some(unit) if rest[..number].parse::<f64>().is_ok() => rest = &rest[number + unit.len()..],
            _ => return false,
        }
        parts += 1;
    }
    parts > 0
}
