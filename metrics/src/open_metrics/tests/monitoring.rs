//! The dashboards and rules of configs/monitoring ask only for what machines write: every name, and every label of it.
//!
//! Expressions are read word by word, not understood: names, the labels between braces and after `by`, and functions that are known. What is none of
//! these fails, so that a new function is added here by whoever uses it first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::*;

const FUNCTIONS: [&str; 6] = ["increase", "label_values", "rate", "sum", "time", "topk"];
const GROUPING: [&str; 2] = ["by", "without"];
/// What Prometheus itself adds to everything that it scrapes, and the name that it makes.
const SCRAPED: [&str; 2] = ["instance", "job"];
const UP: &str = "up";

type Known = BTreeMap<String, BTreeSet<String>>;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/monitoring")
}

/// Names and their labels: of the collector, and of the agent by its golden.
fn known() -> Known {
    let mut text = Text::new(Format::OpenMetrics);
    render(&everything(), &names("cart-1", "cart"), &mut text);
    let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nodeagent/src/server/scrape/golden/machine.txt");
    let agents = std::fs::read_to_string(agents).unwrap();
    let mut known = Known::from([(UP.to_owned(), BTreeSet::new())]);
    for line in text.finish().lines().chain(agents.lines()).filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').map_or((line.split(' ').next().unwrap(), ""), |(name, rest)| (name, rest));
        let labels = labels.split("=\"").filter_map(|part| part.rsplit(['{', ',']).next()).filter(|label| !label.contains(['"', '}']));
        known.entry(name.to_owned()).or_default().extend(labels.map(str::to_owned));
    }
    known
}

/// Words, strings and signs of an expression.
fn words(expression: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || "_:$.".contains(c);
        let length = match first {
            '"' => rest[1..].find('"').unwrap_or_else(|| panic!("a string without end in {expression}")) + 2,
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    words
}

/// Why an expression cannot be asked, if so.
fn wrong(expression: &str, known: &Known) -> Option<String> {
    let words = words(expression);
    let mut open = Vec::new();
    let (mut labels, mut asked): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut names: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let (word, next) = (words[at].as_str(), words.get(at + 1).map(String::as_str));
        let inside = open.last().copied();
        match word {
            "(" if at > 0 && GROUPING.contains(&words[at - 1].as_str()) => open.push("labels"),
            "(" | "{" | "[" => open.push(word),
            ")" if matches!(inside, Some("(" | "labels")) => drop(open.pop()),
            "}" if inside == Some("{") => drop(open.pop()),
            "]" if inside == Some("[") => drop(open.pop()),
            ")" | "}" | "]" => return Some(format!("{word} closes nothing")),
            _ if inside == Some("labels") && word != "," => labels.push(word),
            _ if inside == Some("{") => {
                let is_label = word.starts_with(char::is_alphabetic) && matches!(next, Some("=" | "!"));
                asked.extend(is_label.then_some(word));
                let fits = is_label || word.starts_with('"') || ["=", "!", "~", ","].contains(&word);
                if !fits {
                    return Some(format!("{word} between braces"));
                }
                if is_label
                    && !SCRAPED.contains(&word)
                    && names.last().is_some_and(|name| !known.get(*name).is_some_and(|all| all.contains(word)))
                {
                    return Some(format!("{} has no label {word}", names.last().unwrap()));
                }
            }
            _ if inside == Some("[") => {}
            // The label that `label_values` is asked for.
            _ if words.first().is_some_and(|first| first == "label_values")
                && next == Some(")")
                && word.starts_with(char::is_alphabetic) =>
            {
                labels.push(word)
            }
            _ if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => match next {
                Some("(") if FUNCTIONS.contains(&word) || GROUPING.contains(&word) => {}
                _ if FUNCTIONS.contains(&word) || GROUPING.contains(&word) => {}
                _ if known.contains_key(word) => names.push(word),
                _ => return Some(format!("{word} is neither written by machines nor a function")),
            },
            _ => {}
        }
        at += 1;
    }
    if !open.is_empty() {
        return Some(format!("{open:?} is not closed"));
    }
    let had = |label: &&str| SCRAPED.contains(label) || names.iter().all(|name| known.get(*name).is_some_and(|all| all.contains(*label)));
    match labels.iter().find(|label| !had(label)) {
        Some(label) => Some(format!("{names:?} have no label {label}")),
        None if names.is_empty() => Some("it asks for nothing".to_owned()),
        None => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    #[serde(default)]
    interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    lasts: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn is_duration(text: &str) -> bool {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    number.parse::<u32>().is_ok_and(|number| number > 0) && ["s", "m", "h"].contains(&unit)
}

#[test]
fn rules_ask_for_what_machines_write() {
    let rules: Rules = serde_saphyr::from_str(&std::fs::read_to_string(configs().join("prometheus-rules.yaml")).unwrap()).unwrap();
    let mut known = known();
    let mut seen = BTreeSet::new();
    for group in rules.groups {
        assert!(group.interval.as_deref().is_none_or(is_duration), "{}", group.name);
        for rule in group.rules {
            let name = rule.record.as_ref().or(rule.alert.as_ref()).unwrap_or_else(|| panic!("{} records and alerts nothing", rule.expr));
            assert!(seen.insert(name.clone()), "{name} comes twice");
            assert_eq!(wrong(&rule.expr, &known), None, "{name}: {}", rule.expr);
            assert!(rule.lasts.as_deref().is_none_or(is_duration), "{name}");
            match rule.record {
                // Later rules may ask for it.
                Some(record) => drop(known.insert(record, BTreeSet::new())),
                None => {
                    assert!(["critical", "warning", "info"].contains(&&*rule.labels["severity"]), "{name}");
                    assert!(["summary", "description"].iter().all(|text| !rule.annotations[*text].is_empty()), "{name}");
                    labels_of(&rule.annotations, &rule.expr, &known, name);
                }
            }
        }
    }
    assert!(seen.len() > 10);
}

/// `{{ $labels.pod }}` is empty where the expression has no such label.
fn labels_of(texts: &BTreeMap<String, String>, expression: &str, known: &Known, rule: &str) {
    for part in texts.values().flat_map(|text| text.split("$labels.").skip(1)) {
        let label: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let names = words(expression).into_iter().filter(|word| known.contains_key(word));
        let had = names.into_iter().all(|name| known[&name].contains(&label));
        assert!(had || SCRAPED.contains(&&*label), "{rule}: no label {label}");
    }
}

#[test]
fn dashboards_ask_for_what_machines_write() {
    let known = known();
    let mut boards = BTreeSet::new();
    for entry in std::fs::read_dir(configs())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&entry).unwrap()).unwrap();
        assert!(boards.insert(board["uid"].as_str().unwrap().to_owned()), "two boards of one name");
        let panels = board["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len(), "two panels of one number");
        let asked = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()).map(|target| &target["expr"]);
        let variables = board["templating"]["list"].as_array().unwrap().iter().filter(|variable| variable["type"] == "query");
        let asked: Vec<&str> =
            asked.chain(variables.map(|variable| &variable["query"]["query"])).map(|expr| expr.as_str().unwrap()).collect();
        assert!(asked.len() > 5, "{}", entry.display());
        for expression in asked {
            assert_eq!(wrong(expression, &known), None, "{}: {expression}", entry.display());
        }
    }
    assert_eq!(boards.len(), 2);
}

#[test]
fn what_nobody_writes_is_found() {
    let known = known();
    for (expression, why) in [
        ("rate(container_cpu_usage_second_total[5m])", "neither written"),
        (r#"rate(container_cpu_usage_seconds_total{colour="red"}[5m])"#, "no label colour"),
        ("sum by (colour) (rate(container_cpu_usage_seconds_total[5m]))", "no label colour"),
        ("sum by (pod) (machine_cpu_cores)", "no label pod"),
        ("rate(node_load1[5m]", "not closed"),
        ("node_load1)", "closes nothing"),
        ("frobnicate(node_load1)", "neither written"),
        ("1 + 1", "asks for nothing"),
    ] {
        assert!(wrong(expression, &known).is_some_and(|text| text.contains(why)), "{expression}: {:?}", wrong(expression, &known));
    }
    assert_eq!(wrong(r#"sum by (pod) (rate(container_cpu_usage_seconds_total{pod!="a"}[5m])) > 0.5"#, &known), None);
}
