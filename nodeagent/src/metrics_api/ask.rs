//! What a request asks for, and which right that takes: read as kube-apiserver reads requests (k8s.io/apiserver, RequestInfoFactory).

use controlplane::metrics_api::{Group, Pressure};
use http::Method;
use percent_encoding::percent_decode_str;

use super::discovery;
use super::selector::Selector;
use crate::reviews::{Access, Place};

/// Whose metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Nodes,
    Pods,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `/apis`.
    Groups,
    /// The same, by whoever takes all groups' resources in one answer.
    Everything,
    /// `/apis/<group>`.
    Group(Group),
    /// `/apis/<group>/<version>`.
    Resources(Group),
    Metrics(Wanted),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// CPU and memory of one.
    One { of: Of, namespace: String, name: String },
    /// CPU and memory of many. Without a namespace: of all.
    Many { of: Of, namespace: Option<String>, chosen: Chosen },
    /// One's pressure.
    PressureOfOne { of: Of, namespace: String, name: String, pressure: Pressure },
    /// The pressure of many: their name is `*`.
    PressureOfMany { of: Of, namespace: String, chosen: Chosen, pressure: Pressure },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    pub labels: Selector,
    pub fields: Selector,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// No such path, with the path.
    NoPath(String),
    Method(String),
    /// The query is wrong: which parameter, and how.
    Query(&'static str, String),
}

impl Of {
    pub fn resource(self) -> &'static str {
        match self {
            Of::Nodes => "nodes",
            Of::Pods => "pods",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Of::Nodes => &["metadata.name"],
            Of::Pods => &["metadata.name", "metadata.namespace"],
        }
    }
}

impl Ask {
    pub fn of(method: &Method, path: &str, query: &str, accepted: &str) -> Result<Ask, Refused> {
        if method != Method::GET {
            return Err(Refused::Method(method.to_string()));
        }
        let unknown = || Refused::NoPath(path.to_owned());
        let decoded = percent_decode_str(path).decode_utf8().map_err(|_| unknown())?;
        let parts: Vec<&str> = decoded.split('/').filter(|part| !part.is_empty()).collect();
        let [apis, group @ ..] = parts.as_slice() else { return Err(unknown()) };
        if *apis != "apis" {
            return Err(unknown());
        }
        let [group, version @ ..] = group else {
            let everything = accepted.split(',').any(|kind| kind.trim() == discovery::EVERYTHING);
            return Ok(if everything { Ask::Everything } else { Ask::Groups });
        };
        let group = Group::ALL.into_iter().find(|known| known.name() == *group).ok_or_else(unknown)?;
        let [version, rest @ ..] = version else { return Ok(Ask::Group(group)) };
        if *version != group.version() {
            return Err(unknown());
        }
        match group {
            _ if rest.is_empty() => Ok(Ask::Resources(group)),
            Group::Resource => resource(rest, query)?.map(Ask::Metrics).ok_or_else(unknown),
            Group::Custom => pressure(rest, query)?.map(Ask::Metrics).ok_or_else(unknown),
        }
    }

    /// The right that it takes, as roles grant it.
    pub fn access(&self, path: &str) -> Access {
        let resource = |group: Group, verb, of: Of, namespace: &str, name: Option<&str>, subresource: Option<Pressure>| Access::Resource {
            verb,
            group: group.name(),
            version: group.version(),
            resource: of.resource(),
            place: Place {
                namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
                name: name.map(str::to_owned),
                subresource: subresource.map(|pressure| pressure.name().to_owned()),
            },
        };
        let wanted = match self {
            Ask::Groups | Ask::Everything | Ask::Group(_) | Ask::Resources(_) => {
                return Access::Path { path: path.to_owned(), verb: "get" };
            }
            Ask::Metrics(wanted) => wanted,
        };
        match wanted {
            Wanted::One { of, namespace, name } => resource(Group::Resource, "get", *of, namespace, Some(name), None),
            Wanted::Many { of, namespace, .. } => {
                resource(Group::Resource, "list", *of, namespace.as_deref().unwrap_or_default(), None, None)
            }
            Wanted::PressureOfOne { of, namespace, name, pressure } => {
                resource(Group::Custom, "get", *of, namespace, Some(name), Some(*pressure))
            }
            Wanted::PressureOfMany { of, namespace, pressure, .. } => {
                resource(Group::Custom, "get", *of, namespace, Some("*"), Some(*pressure))
            }
        }
    }
}

fn resource(rest: &[&str], query: &str) -> Result<Option<Wanted>, Refused> {
    let many = |of, namespace: Option<&str>| {
        let chosen = chosen(of, query, "labelSelector")?;
        Ok(Some(Wanted::Many { of, namespace: namespace.map(str::to_owned), chosen }))
    };
    let one = |of, namespace: &str, name: &str| Ok(Some(Wanted::One { of, namespace: namespace.to_owned(), name: name.to_owned() }));
    match rest {
        ["nodes"] => many(Of::Nodes, None),
        ["nodes", name] => one(Of::Nodes, "", name),
        ["pods"] => many(Of::Pods, None),
        ["namespaces", namespace, "pods"] => many(Of::Pods, Some(namespace)),
        ["namespaces", namespace, "pods", name] => one(Of::Pods, namespace, name),
        _ => Ok(None),
    }
}

fn pressure(rest: &[&str], query: &str) -> Result<Option<Wanted>, Refused> {
    let (of, namespace, name, metric) = match rest {
        ["nodes", name, metric] => (Of::Nodes, "", *name, *metric),
        ["namespaces", namespace, "pods", name, metric] => (Of::Pods, *namespace, *name, *metric),
        _ => return Ok(None),
    };
    let Some(pressure) = Pressure::ALL.into_iter().find(|known| known.name() == metric) else { return Ok(None) };
    let namespace = namespace.to_owned();
    // Labels of the metric itself, of which these have none.
    let of_metric = parameter(query, "metricLabelSelector").unwrap_or_default();
    if !of_metric.is_empty() {
        return Err(Refused::Query("metricLabelSelector", format!("{of_metric:?}; expected none: {metric} has no labels")));
    }
    Ok(Some(match name {
        "*" => Wanted::PressureOfMany { of, namespace, chosen: chosen(of, query, "labelSelector")?, pressure },
        name => Wanted::PressureOfOne { of, namespace, name: name.to_owned(), pressure },
    }))
}

fn chosen(of: Of, query: &str, labels: &'static str) -> Result<Chosen, Refused> {
    let watch = parameter(query, "watch").unwrap_or_default();
    if !["", "false", "0"].contains(&&*watch) {
        return Err(Refused::Method("watch".to_owned()));
    }
    let wrong = |parameter| move |problem| Refused::Query(parameter, problem);
    Ok(Chosen {
        labels: Selector::of_labels(&parameter(query, labels).unwrap_or_default()).map_err(wrong(labels))?,
        fields: Selector::of_fields(&parameter(query, "fieldSelector").unwrap_or_default(), of.fields()).map_err(wrong("fieldSelector"))?,
    })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_and_the_rights_that_they_take() {
        let mut table = String::new();
        for (path, query) in [
            ("/apis", ""),
            ("/apis/metrics.k8s.io", ""),
            ("/apis/metrics.k8s.io/v1beta1", ""),
            ("/apis/metrics.k8s.io/v1beta1/nodes", ""),
            ("/apis/metrics.k8s.io/v1beta1/nodes/a", ""),
            ("/apis/metrics.k8s.io/v1beta1/pods", "labelSelector=app%3Dweb&limit=500"),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods", "fieldSelector=metadata.name%3Da"),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/a", ""),
            ("/apis/custom.metrics.k8s.io/v1beta2", ""),
            ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/pressure_cpu_some", ""),
            ("/apis/custom.metrics.k8s.io/v1beta2/nodes/%2A/pressure_io_full", ""),
            ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/pressure_memory_full", "labelSelector=app"),
            ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/a/pressure_memory_full", ""),
            ("/apis/metrics.k8s.io/v1", ""),
            ("/apis/metrics.k8s.io/v1beta1/pods", "watch=true"),
            ("/apis/metrics.k8s.io/v1beta1/pods", "labelSelector=a%3Eb"),
            ("/apis/metrics.k8s.io/v1beta1/nodes", "fieldSelector=metadata.namespace%3Da"),
            ("/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/a/other", ""),
            ("/apis/custom.metrics.k8s.io/v1beta2/nodes/a/pressure_cpu_some", "metricLabelSelector=a"),
            ("/openapi/v2", ""),
            ("/", ""),
        ] {
            let shown = match Ask::of(&Method::GET, path, query, "") {
                Ok(ask) => ask.access(path).to_string(),
                Err(refused) => format!("{refused:?}"),
            };
            writeln!(table, "{path} {query}\n    {shown}").unwrap();
        }
        crate::golden::check("src/metrics_api/golden/asks.txt", &table);
    }

    #[test]
    fn nothing_can_be_written() {
        for method in [Method::POST, Method::DELETE, Method::PATCH] {
            assert_eq!(Ask::of(&method, "/apis", "", ""), Err(Refused::Method(method.to_string())));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_makes_it_panic(path in "/apis/(metrics|custom.metrics).k8s.io/v1beta[12]/.{0,60}", query in ".{0,60}") {
            let _ = Ask::of(&Method::GET, &path, &query, "").map(|ask| ask.access(&path));
        }
    }
}
