//! A program's flags: our own, and the user's over them. Which of ours are not the user's to set, the machine config's check says.

use std::collections::BTreeMap;

use crate::facts::Facts;

/// Flags by name, without the dashes.
pub(crate) type Flags = BTreeMap<String, String>;

/// The user's flags over ours. To a flag in `lists`, a comma-separated list, the user adds.
pub(crate) fn merge(ours: Flags, users: &BTreeMap<String, String>, lists: &[&str]) -> Flags {
    let mut merged = ours;
    for (flag, value) in users {
        let own = merged.get(flag).filter(|_| lists.contains(&flag.as_str()));
        let value = own.map_or_else(|| value.clone(), |own| union(own, value));
        merged.insert(flag.clone(), value);
    }
    merged
}

fn union(ours: &str, users: &str) -> String {
    let mut items: Vec<&str> = ours.split(',').collect();
    let new = users.split(',').filter(|item| !item.is_empty() && !ours.split(',').any(|own| own == *item));
    items.extend(new);
    items.join(",")
}

/// As arguments, by name.
pub(crate) fn arguments(flags: &Flags) -> Vec<String> {
    flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect()
}

/// Shorthand for the tables in the services' modules.
pub(crate) fn flags<const N: usize>(pairs: [(&str, String); N]) -> Flags {
    pairs.into_iter().map(|(flag, value)| (flag.to_owned(), value)).collect()
}

/// Which version of Kubernetes to behave as, where that is another than the program's own. The controller manager and the scheduler may not
/// be newer than the API server that they talk to (<https://kubernetes.io/releases/version-skew-policy/>), and so emulate what it does.
pub(crate) fn emulation(facts: &Facts) -> Flags {
    facts.emulated.iter().map(|version| ("emulated-version".to_owned(), version.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(flag: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(flag.to_owned(), value.to_owned())])
    }

    #[test]
    fn users_flags_win_and_lists_grow() {
        let ours = flags([("v", "1".to_owned()), ("list", "a,b".to_owned())]);
        let merged = merge(ours.clone(), &user("v", "2"), &["list"]);
        assert_eq!(arguments(&merged), ["--list=a,b", "--v=2"]);
        let merged = merge(ours.clone(), &user("list", "b,c"), &["list"]);
        assert_eq!(merged["list"], "a,b,c");
        let merged = merge(ours, &user("new", "x"), &["list"]);
        assert_eq!(arguments(&merged), ["--list=a,b", "--new=x", "--v=1"]);
    }
}
