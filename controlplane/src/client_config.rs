//! machinectl's client config: which machines it talks to, and as whom.

use std::collections::BTreeMap;

use machine::config::Secret;
use serde::{Deserialize, Serialize};

pub const API_VERSION: &str = "corten.dev/v1";
pub const KIND: &str = "ClientConfig";

/// The file, one context per cluster and identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientConfig {
    /// Always `corten.dev/v1`.
    pub api_version: String,
    /// Always `ClientConfig`.
    pub kind: String,
    /// Name of the context that is used when none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// `host:port` of machine APIs that are called directly.
    pub endpoints: Vec<String>,
    /// Machines that are meant when none is said; reached through the endpoints. Default: the endpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// PEM of the machine authority.
    pub ca: String,
    /// PEM of the client's certificate; its organization is the role.
    pub certificate: String,
    /// PEM of its key.
    pub key: Secret,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientConfigError {
    #[error("reading the client config")]
    Parse(#[source] Box<serde_saphyr::Error>),
    #[error("client config: {field} is {found:?}; expected {expected:?}")]
    Header { field: &'static str, found: String, expected: &'static str },
    #[error("client config: context {name:?} does not exist; there are: {existing}")]
    NoSuchContext { name: String, existing: String },
    #[error("client config: no current context; name one with --context, or set `current` to one of: {existing}")]
    NoCurrent { existing: String },
    #[error("writing the client config")]
    Write(#[source] Box<serde_saphyr::SerializeError>),
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), current: None, contexts: BTreeMap::new() }
    }
}

impl ClientConfig {
    pub fn from_yaml(text: &str) -> Result<ClientConfig, ClientConfigError> {
        let config: ClientConfig = crate::yaml::from_str(text).map_err(|error| ClientConfigError::Parse(error.into()))?;
        for (field, found, expected) in [("apiVersion", &config.api_version, API_VERSION), ("kind", &config.kind, KIND)] {
            if found != expected {
                return Err(ClientConfigError::Header { field, found: found.clone(), expected });
            }
        }
        Ok(config)
    }

    pub fn to_yaml(&self) -> Result<String, ClientConfigError> {
        crate::yaml::to_string(self).map_err(|error| ClientConfigError::Write(error.into()))
    }

    /// Adds a context, or replaces the one of that name, and makes it the current one.
    pub fn add(&mut self, name: &str, context: Context) {
        self.contexts.insert(name.to_owned(), context);
        self.current = Some(name.to_owned());
    }

    /// Takes over the other's contexts and its current one.
    pub fn merge(&mut self, other: ClientConfig) {
        self.contexts.extend(other.contexts);
        self.current = other.current.or(self.current.take());
    }

    /// The named context, or the current one.
    pub fn context(&self, name: Option<&str>) -> Result<&Context, ClientConfigError> {
        let existing =
            || if self.contexts.is_empty() { "none".to_owned() } else { self.contexts.keys().cloned().collect::<Vec<_>>().join(", ") };
        let name = name.or(self.current.as_deref()).ok_or_else(|| ClientConfigError::NoCurrent { existing: existing() })?;
        self.contexts.get(name).ok_or_else(|| ClientConfigError::NoSuchContext { name: name.to_owned(), existing: existing() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(endpoint: &str) -> Context {
        let text = |what: &str| format!("{what}\n");
        Context {
            endpoints: vec![endpoint.to_owned()],
            nodes: Vec::new(),
            ca: text("ca"),
            certificate: text("certificate"),
            key: Secret::new("key\n"),
        }
    }

    fn config(names: &[&str]) -> ClientConfig {
        let mut config = ClientConfig::default();
        names.iter().for_each(|name| config.add(name, context(name)));
        config
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = config(&["a", "b"]).to_yaml().expect("YAML");
        assert_eq!(ClientConfig::from_yaml(&text).expect("readable"), config(&["a", "b"]));
        assert!(text.starts_with("apiVersion: corten.dev/v1\nkind: ClientConfig\ncurrent: b\n"), "{text}");
    }

    #[test]
    fn contexts_are_found_or_named() {
        let two = config(&["a", "b"]);
        assert_eq!(two.context(None).expect("current").endpoints, ["b"]);
        assert_eq!(two.context(Some("a")).expect("there").endpoints, ["a"]);
        let error = two.context(Some("c")).expect_err("not there");
        assert_eq!(error.to_string(), "client config: context \"c\" does not exist; there are: a, b");
        let error = ClientConfig::default().context(None).expect_err("empty");
        assert!(error.to_string().ends_with("one of: none"), "{error}");
    }

    #[test]
    fn merging_keeps_others_and_takes_the_new_current() {
        let mut merged = config(&["a", "b"]);
        let replaced = ClientConfig { contexts: BTreeMap::from([("a".to_owned(), context("new"))]), ..config(&["a"]) };
        merged.merge(replaced);
        assert_eq!((merged.current.as_deref(), merged.contexts.len()), (Some("a"), 2));
        assert_eq!(merged.contexts["a"].endpoints, ["new"]);
        merged.merge(ClientConfig::default());
        assert_eq!((merged.current.as_deref(), merged.contexts.len()), (Some("a"), 2));
    }

    #[test]
    fn another_file_is_refused() {
        assert!(ClientConfig::from_yaml("apiVersion: corten.dev/v1\nkind: Secrets\n").is_err());
        assert!(ClientConfig::from_yaml("apiVersion: corten.dev/v1\nkind: ClientConfig\nunknown: 1\n").is_err());
    }
}
