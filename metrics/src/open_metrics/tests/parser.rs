//! OpenMetrics 1.0 (github.com/prometheus/OpenMetrics, specification/OpenMetrics.md), as far as counters, gauges and unknowns go, and
//! no more lenient than it.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("the text does not end in # EOF")?;
    let mut families: Vec<Family> = Vec::new();
    let (mut names, mut series) = (BTreeSet::new(), BTreeSet::new());
    for line in body.strip_suffix('\n').unwrap_or(body).split('\n') {
        if let Some(heading) = line.strip_prefix("# ") {
            let mut words = heading.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().ok_or(line)?, words.next().ok_or(line)?);
            match word {
                "HELP" => {
                    if !names.insert(name.to_owned()) {
                        return Err(format!("family {name} comes twice"));
                    }
                    families.push(Family { name: name.to_owned(), ..Family::default() });
                }
                "TYPE" if families.last().is_some_and(|family| family.name == name && family.samples.is_empty()) => {
                    families.last_mut().unwrap().kind = rest.to_owned();
                }
                _ => return Err(format!("not a heading: {line:?}")),
            }
            continue;
        }
        let family = families.last_mut().ok_or("a sample before any family")?;
        let expected = if family.kind == "counter" { format!("{}_total", family.name) } else { family.name.clone() };
        let rest = line.strip_prefix(&expected).ok_or_else(|| format!("{line:?} is not of {expected}"))?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = value.strip_prefix(' ').ok_or_else(|| format!("no value: {line:?}"))?;
        let value: f64 = value.parse().map_err(|_| format!("value {value:?}"))?;
        if family.kind == "counter" && value < 0.0 {
            return Err(format!("a counter below zero: {line:?}"));
        }
        if !series.insert((expected, labels.clone())) {
            return Err(format!("the same series twice: {line:?}"));
        }
        family.samples.push(Sample { labels, value });
    }
    Ok(families)
}

fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let equals = rest.find("=\"").ok_or_else(|| format!("no label: {rest:?}"))?;
        let name = &rest[..equals];
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("label name {name:?}"));
        }
        let (mut value, mut characters) = (String::new(), rest[equals + 2..].char_indices());
        let end = loop {
            match characters.next().ok_or("quotes that do not end")? {
                (at, '"') => break at,
                (_, '\\') => match characters.next().ok_or("an escape that does not end")?.1 {
                    'n' => value.push('\n'),
                    escaped @ ('"' | '\\') => value.push(escaped),
                    other => return Err(format!("escape {other:?}")),
                },
                (_, other) => value.push(other),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("label {name} twice"));
        }
        rest = &rest[equals + 2 + end + 1..];
        match rest.as_bytes().first() {
            Some(b',') => rest = &rest[1..],
            Some(b'}') => return Ok((labels, &rest[1..])),
            _ => return Err(format!("neither , nor }} after a label: {rest:?}")),
        }
    }
}
