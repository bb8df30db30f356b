//! A program's flags: our own, and the user's over them.

use std::collections::BTreeMap;

/// Flags by name, without the dashes.
pub type Flags = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}.{flag} cannot be set: {reason}")]
pub struct OwnedFlag {
    /// Where in the machine config, such as `cluster.apiServer.extraArgs`.
    pub field: &'static str,
    pub flag: String,
    pub reason: &'static str,
}

/// A flag that the machine config's other fields or the machine itself decide, and why it is no one else's.
pub type Owned = (&'static str, &'static str);

/// How the user's value of a flag meets ours.
pub(crate) struct Rules {
    /// Where in the machine config the user's flags stand.
    pub field: &'static str,
    pub owned: &'static [Owned],
    /// Comma-separated lists, to which the user adds.
    pub lists: &'static [&'static str],
}

/// The user's flags over ours.
pub(crate) fn merge(ours: Flags, users: &BTreeMap<String, String>, rules: &Rules) -> Result<Flags, OwnedFlag> {
    let mut merged = ours;
    for (flag, value) in users {
        if let Some((_, reason)) = rules.owned.iter().find(|(owned, _)| owned == flag) {
            return Err(OwnedFlag { field: rules.field, flag: flag.clone(), reason });
        }
        let own = merged.get(flag).filter(|_| rules.lists.contains(&flag.as_str()));
        let value = own.map_or_else(|| value.clone(), |own| union(own, value));
        merged.insert(flag.clone(), value);
    }
    Ok(merged)
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { field: "cluster.x.extraArgs", owned: &[("mine", "it is mine")], lists: &["list"] };

    fn user(flag: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(flag.to_owned(), value.to_owned())])
    }

    #[test]
    fn users_flags_win_and_lists_grow() {
        let ours = flags([("v", "1".to_owned()), ("list", "a,b".to_owned())]);
        let merged = merge(ours.clone(), &user("v", "2"), &RULES).expect("v is free");
        assert_eq!(arguments(&merged), ["--list=a,b", "--v=2"]);
        let merged = merge(ours, &user("list", "b,c"), &RULES).expect("list is free");
        assert_eq!(merged["list"], "a,b,c");
    }

    #[test]
    fn owned_flags_are_refused_with_the_reason() {
        let refused = merge(Flags::new(), &user("mine", "x"), &RULES).expect_err("mine is owned");
        assert_eq!(refused.to_string(), "cluster.x.extraArgs.mine cannot be set: it is mine");
    }
}
