//! Label selectors (meta/v1 LabelSelector).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::cluster::Labels;

/// All of these have to hold; with none, everything is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    needs: Needs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Needs {
    In(Vec<String>),
    /// Holds without the label, too.
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// What is wrong with it otherwise.
    pub fn read(selector: &LabelSelector) -> Result<Selector, String> {
        let labels = selector.match_labels.iter().flatten();
        let equal = labels.map(|(key, value)| Ok(Requirement { key: key.clone(), needs: Needs::In(vec![value.clone()]) }));
        let expressions = selector.match_expressions.iter().flatten().map(requirement);
        Ok(Selector(equal.chain(expressions).collect::<Result<_, _>>()?))
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.needs {
                Needs::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Needs::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Needs::Exists => value.is_some(),
                Needs::DoesNotExist => value.is_none(),
            }
        })
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, String> {
    let values = || expression.values.clone().unwrap_or_default();
    let needs = match expression.operator.as_str() {
        "In" => Needs::In(values()),
        "NotIn" => Needs::NotIn(values()),
        "Exists" => Needs::Exists,
        "DoesNotExist" => Needs::DoesNotExist,
        other => return Err(format!("matchExpressions: operator {other:?}; expected In, NotIn, Exists or DoesNotExist")),
    };
    Ok(Requirement { key: expression.key.clone(), needs })
}
