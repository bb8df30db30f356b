//! Label and field selectors, as clients of the Kubernetes API write them (k8s.io/apimachinery, pkg/labels and pkg/fields).

use std::collections::BTreeMap;

/// No requirement: everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// More requirements than this are nobody's who asks in earnest.
const MOST: usize = 64;

impl Selector {
    /// Of labels: `a=b`, `a!=b`, `a in (b, c)`, `a notin (b, c)`, `a`, `!a`, with commas between.
    pub fn of_labels(text: &str) -> Result<Selector, String> {
        let wrong = |part: &str| format!("{part:?}; expected one of key=value, key!=value, key in (a,b), key notin (a,b), key, !key");
        parts(text)?.into_iter().map(|part| label(part).ok_or_else(|| wrong(part))).collect::<Result<_, _>>().map(Selector)
    }

    /// Of fields: `a=b` and `a!=b`, of those that the resource has.
    pub fn of_fields(text: &str, known: &[&str]) -> Result<Selector, String> {
        let requirement = |part| {
            let requirement = label(part).filter(|requirement| known.contains(&&*requirement.key));
            let equal = requirement.filter(|requirement| matches!(requirement.test, Test::In(_) | Test::NotIn(_)));
            equal.ok_or_else(|| format!("{part:?}; expected field=value or field!=value, field one of {}", known.join(", ")))
        };
        parts(text)?.into_iter().map(requirement).collect::<Result<_, _>>().map(Selector)
    }

    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let found = value(key);
            match test {
                Test::In(values) => found.is_some_and(|found| values.iter().any(|value| value == found)),
                Test::NotIn(values) => found.is_none_or(|found| values.iter().all(|value| value != found)),
                Test::Exists => found.is_some(),
                Test::Absent => found.is_none(),
            }
        })
    }

    pub fn matches_all(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(|key| labels.get(key).map(String::as_str))
    }
}

/// Split at commas that are in no parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    let mut inside = false;
    let split = text.split(|letter| {
        inside = if inside { letter != ')' } else { letter == '(' };
        letter == ',' && !inside
    });
    let parts: Vec<&str> = split.map(str::trim).collect();
    match parts.as_slice() {
        [""] => Ok(Vec::new()),
        many if many.len() > MOST => Err(format!("{} requirements; expected {MOST} at most", many.len())),
        _ => Ok(parts),
    }
}

fn label(part: &str) -> Option<Requirement> {
    let of = |key: &str, test| Some(Requirement { key: key.trim().to_owned(), test }).filter(|made| is_key(&made.key));
    if let Some(key) = part.strip_prefix('!') {
        return of(key, Test::Absent);
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, Test::NotIn(vec![plain(value)?]));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return of(key, Test::In(vec![plain(value)?]));
    }
    let Some(set) = part.strip_suffix(')') else { return of(part, Test::Exists) };
    let (words, values) = set.split_once('(')?;
    let values = values.split(',').map(plain).collect::<Option<Vec<String>>>()?;
    match words.trim_end().rsplit_once(char::is_whitespace)? {
        (key, "in") => of(key, Test::In(values)),
        (key, "notin") => of(key, Test::NotIn(values)),
        _ => None,
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// A value: what labels and names may have in them.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "web"), ("tier", "front"), ("example.com/a", "")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn selectors_choose_as_upstreams_do() {
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app = web , tier != back", true),
            ("app!=web", false),
            ("none!=web", true),
            ("app in (web, api),tier notin (back)", true),
            ("app in (api)", false),
            ("none in (a)", false),
            ("none notin (a,b),app", true),
            ("app,!none", true),
            ("!app", false),
            ("example.com/a=", true),
            ("example.com/a in ()", true),
        ] {
            assert_eq!(Selector::of_labels(text).map(|selector| selector.matches_all(&labels())), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["=", "a b", "a>1", "a in b", "a within (b)", "a=b,,c", "a in (b", "a=b=c", "ä=b", "!"] {
            assert!(Selector::of_labels(text).is_err(), "{text}");
        }
        assert!(Selector::of_labels(&"a,".repeat(100)).is_err());
        let known = &["metadata.name"];
        assert!(Selector::of_fields("metadata.name=a,metadata.name!=b", known).is_ok());
        for text in ["spec.nodeName=a", "metadata.name", "metadata.name>a"] {
            assert!(Selector::of_fields(text, known).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_panic(text in ".{0,200}") {
            let _ = Selector::of_labels(&text).map(|selector| selector.matches_all(&labels()));
        }
    }
}
