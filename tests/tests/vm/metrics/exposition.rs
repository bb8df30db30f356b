//! Texts of metrics, as far as two of them are compared: Prometheus' format, with or without times.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub series: Vec<(Labels, f64)>,
}

/// Families by name.
pub fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Family>> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, kind) = told.split_once(' ').with_context(|| format!("{line:?}"))?;
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
        }
        if line.starts_with('#') {
            continue;
        }
        let end = line.find(['{', ' ']).with_context(|| format!("no value: {line:?}"))?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest).with_context(|| format!("{line:?}"))?,
            None => (Labels::new(), rest),
        };
        // What follows is the time.
        let value = rest.split_whitespace().next().with_context(|| format!("no value: {line:?}"))?;
        let value = value.parse().with_context(|| format!("{line:?}"))?;
        families.entry(name.to_owned()).or_default().series.push((labels, value));
    }
    Ok(families)
}

/// Up to the brace that closes them, and what follows it.
fn labels(mut rest: &str) -> anyhow::Result<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").context("no label")?;
        let end = after.find('"').context("a value that does not end")?;
        let value = &after[..end];
        // Nothing that these machines run is called so.
        ensure!(!value.contains('\\'), "a value with an escape: {value:?}");
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            bail!("label {name} twice");
        }
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[test]
fn both_ways_to_write_it() {
    let text = "# HELP a Of all.\n# TYPE a counter\na{pod=\"x\",id=\"/\"} 1.5e+00 1764520000000\na{pod=\"y\",} 2\nb 3\n";
    let families = parse(text).unwrap();
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(families["a"].kind, "counter");
    let expected = [(Labels::from([label("pod", "x"), label("id", "/")]), 1.5), (Labels::from([label("pod", "y")]), 2.0)];
    assert_eq!(families["a"].series, expected);
    assert_eq!(families["b"].series, [(Labels::new(), 3.0)]);
    assert!(parse("a{pod=\"x} 1\n").is_err() && parse("a\n").is_err());
}
