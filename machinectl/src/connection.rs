//! The flags that say which machines are meant and as whom, and calling them side by side.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use controlplane::client_config::{ClientConfig, Context};
use futures::future::join_all;
use machine::config::{Host, HostPort};

use crate::failure::{Failure, Kind};
use crate::files;
use crate::session::{Dialer, Session};
use crate::tls::{Fingerprint, Trust};

/// For how long a machine that cannot be reached is tried again, where the command does not wait for it to come up.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which machines, and as whom")]
pub struct Connection {
    /// Client config [default: ~/.config/corten/config.yaml]
    #[arg(long, global = true, value_name = "FILE", env = "CORTENCONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Context of the client config [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Machines, as host or host:port [default: those of the context]
    #[arg(short = 'n', long, global = true, value_name = "HOST,...", value_delimiter = ',', value_parser = node)]
    pub nodes: Vec<HostPort>,
    /// Machine APIs to call instead of the context's; with --nodes, control planes that pass the calls on
    #[arg(short = 'e', long, global = true, value_name = "HOST,...", value_delimiter = ',', value_parser = node)]
    pub endpoints: Vec<HostPort>,
    /// How long a command may take, such as 30s or 10m
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<machine::config::Duration>,
    /// Call a machine in maintenance, which has no certificate of a cluster yet
    #[arg(long, global = true)]
    pub insecure: bool,
    /// What the console of a machine in maintenance shows: sha256:...; implies --insecure, and makes it safe
    #[arg(long, global = true, value_name = "SHA256")]
    pub fingerprint: Option<Fingerprint>,
    /// Name to expect in the machine's certificate instead of the one it is called by
    #[arg(long, global = true, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Where the client config is if neither flag nor environment say so.
    #[arg(skip)]
    pub default_config: PathBuf,
    /// For how long a machine that cannot be reached is tried again, if not as usual.
    #[arg(skip)]
    pub patience: Option<Duration>,
}

/// `host[:port]`, with the machine API's port where none is said.
pub fn node(text: &str) -> Result<HostPort, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(host) = bare.parse::<Host>() {
        return Ok(HostPort { host, port: api::PORT });
    }
    text.parse().map_err(|_| "expected a host, or a host and a port, such as 192.0.2.10 or [2001:db8::10]:50000".to_owned())
}

/// What several machines answered.
#[derive(Debug)]
pub struct Answers<T, N = HostPort> {
    pub done: Vec<(N, T)>,
    pub failed: Vec<Failure>,
}

impl<T, N> Answers<T, N> {
    /// `Ok` if every machine did it; else all that went wrong, as one failure.
    pub fn outcome(self) -> Result<(), Failure> {
        let Some(first) = self.failed.first() else { return Ok(()) };
        let same = self.failed.iter().all(|failure| failure.kind == first.kind);
        let kind = match self.done.is_empty() {
            false => Kind::Partial,
            true if same => first.kind,
            true => Kind::Failed,
        };
        Err(Failure { kind, ..Failure::all(self.failed) })
    }
}

impl Connection {
    pub fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| self.default_config.clone())
    }

    pub fn client_config(&self) -> Result<ClientConfig, Failure> {
        let path = self.config_path();
        if !path.exists() {
            let remedy = "make one with `machinectl gen config` and add it with `machinectl context add`, or name one with --config";
            return Err(Failure::new(path.display(), "no client config there").remedy(remedy));
        }
        let text = files::read_text(&path)?;
        ClientConfig::from_yaml(&text).map_err(|error| Failure::of(path.display(), &error))
    }

    fn current(&self) -> Result<Context, Failure> {
        let config = self.client_config()?;
        let context = config.context(self.context.as_deref());
        context.cloned().map_err(|error| Failure::of(self.config_path().display(), &error))
    }

    fn is_maintenance(&self) -> bool {
        self.insecure || self.fingerprint.is_some()
    }

    /// The machines that are meant, and how to call them.
    fn reach(&self) -> Result<(Vec<HostPort>, Trust), Failure> {
        let said = if self.nodes.is_empty() { &self.endpoints } else { &self.nodes };
        if self.is_maintenance() {
            if said.is_empty() {
                return Err(Failure::usage("--insecure", "no machine is named").remedy("name it with --nodes"));
            }
            return Ok((said.clone(), Trust::Maintenance(self.fingerprint)));
        }
        let context = self.current()?;
        let own = if context.nodes.is_empty() { &context.endpoints } else { &context.nodes };
        let own = own.iter().map(|text| self.in_context(text)).collect::<Result<Vec<_>, _>>()?;
        let nodes = if said.is_empty() { own } else { said.clone() };
        if nodes.is_empty() {
            return Err(Failure::usage(self.config_path().display(), "the context names no machine").remedy("name one with --nodes"));
        }
        Ok((nodes, Trust::Cluster(Box::new(context))))
    }

    /// Other machines, reached in the same way.
    pub fn among(&self, nodes: Vec<HostPort>) -> Connection {
        Connection { nodes, ..self.clone() }
    }

    /// Machines that cannot be reached from here, through control planes that can; none where the user said which way to go, or there is no other.
    pub fn through(&self, endpoints: Vec<HostPort>, nodes: Vec<HostPort>) -> Option<Connection> {
        let possible = self.endpoints.is_empty() && !endpoints.is_empty() && !nodes.is_empty() && !self.is_maintenance();
        possible.then(|| Connection { endpoints, nodes, ..self.clone() })
    }

    /// One of the machines that are meant, whichever answers first in their order: for what is the same through any of them.
    pub async fn any(&self) -> Result<Connection, Failure> {
        let (nodes, trust) = self.reach()?;
        let only = nodes.len() == 1;
        let mut troubles = Vec::new();
        for node in nodes {
            let dialer = self.dialer(trust.clone(), self.timeout.map(|timeout| timeout.0));
            match dialer.connect(&node).await {
                _ if only => return Ok(self.among(vec![node])),
                Ok(_) => return Ok(self.among(vec![node])),
                Err(failure) => troubles.push(failure.to_string()),
            }
        }
        Err(Failure { problems: troubles, ..Failure::new("", "") })
    }

    /// The machine APIs that the context names: those of control planes.
    pub fn context_endpoints(&self) -> Result<Vec<HostPort>, Failure> {
        if self.is_maintenance() {
            return Ok(Vec::new());
        }
        self.current()?.endpoints.iter().map(|text| self.in_context(text)).collect()
    }

    fn in_context(&self, text: &str) -> Result<HostPort, Failure> {
        node(text).map_err(|error| Failure::new(self.config_path().display(), format!("endpoint {text:?}: {error}")))
    }

    /// The same machines, which may be on their way up.
    pub fn waiting_for(&self, patience: Duration) -> Connection {
        Connection { patience: Some(patience), ..self.clone() }
    }

    fn dialer(&self, trust: Trust, timeout: Option<Duration>) -> Dialer {
        let patience = self.patience.unwrap_or(PATIENCE);
        let patience = timeout.map_or(patience, |timeout| timeout.min(patience));
        Dialer { trust, server_name: self.server_name.clone(), patience }
    }

    /// Calls every machine that is meant, side by side. `usual` is how long that may take if the user does not say; `None`: for ever.
    pub async fn each<T>(&self, usual: Option<Duration>, call: impl AsyncFn(Session) -> Result<T, Failure>) -> Result<Answers<T>, Failure> {
        let (nodes, trust) = self.reach()?;
        self.ask_all(nodes, trust, usual, call).await
    }

    /// As [`Connection::each`], for what is done to one machine only: with several in the context, the user must say which.
    pub async fn one<T>(&self, usual: Option<Duration>, call: impl AsyncFn(Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let (nodes, trust) = self.reach()?;
        if let [_, _, ..] = nodes.as_slice() {
            let names = nodes.iter().map(HostPort::to_string).collect::<Vec<_>>().join(", ");
            return Err(
                Failure::usage("--nodes", format!("this is done to one machine; there are {names}")).remedy("name one with --nodes")
            );
        }
        let mut answers = self.ask_all(nodes, trust, usual, call).await?;
        match answers.done.pop() {
            Some((_, answer)) => Ok(answer),
            None => Err(answers.outcome().err().unwrap_or_else(|| Failure::new("", "no machine answered"))),
        }
    }

    /// As [`Connection::each`], for what changes machines: several must have been named.
    pub async fn each_named<T>(
        &self,
        usual: Option<Duration>,
        call: impl AsyncFn(Session) -> Result<T, Failure>,
    ) -> Result<Answers<T>, Failure> {
        let (nodes, trust) = self.reach()?;
        if nodes.len() > 1 && self.nodes.is_empty() {
            let names = nodes.iter().map(HostPort::to_string).collect::<Vec<_>>().join(", ");
            return Err(Failure::usage("--nodes", format!("this changes machines; the context has {names}"))
                .remedy("name those meant with --nodes"));
        }
        self.ask_all(nodes, trust, usual, call).await
    }

    /// How many machines are meant.
    pub fn count(&self) -> Result<usize, Failure> {
        Ok(self.reach()?.0.len())
    }

    async fn ask_all<T>(
        &self,
        nodes: Vec<HostPort>,
        trust: Trust,
        usual: Option<Duration>,
        call: impl AsyncFn(Session) -> Result<T, Failure>,
    ) -> Result<Answers<T>, Failure> {
        let timeout = self.timeout.map(|timeout| timeout.0).or(usual);
        let dialer = self.dialer(trust, timeout);
        let through = if self.nodes.is_empty() || self.is_maintenance() { &[] } else { self.endpoints.as_slice() };
        let ask = async |node: HostPort| {
            let session = async || match through {
                [] => dialer.connect(&node).await,
                endpoints => dialer.connect_through(endpoints, &node).await,
            };
            let answer = within(timeout, &node, async || call(session().await?).await).await;
            (node, answer)
        };
        let mut answers = Answers { done: Vec::new(), failed: Vec::new() };
        for (node, answer) in join_all(nodes.into_iter().map(&ask)).await {
            match answer {
                Ok(answer) => answers.done.push((node, answer)),
                Err(failure) => answers.failed.push(failure),
            }
        }
        Ok(answers)
    }
}

/// Runs a call with a deadline.
async fn within<T>(timeout: Option<Duration>, node: &HostPort, whole: impl AsyncFnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    match timeout {
        None => whole().await,
        Some(timeout) => {
            tokio::time::timeout(timeout, whole()).await.unwrap_or_else(|_| Err(Failure::deadline(node, "no answer", timeout)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_port_of_the_machine_api() {
        for (text, expected) in [
            ("192.0.2.10", "192.0.2.10:50000"),
            ("192.0.2.10:1", "192.0.2.10:1"),
            ("2001:db8::1", "[2001:db8::1]:50000"),
            ("[2001:db8::1]", "[2001:db8::1]:50000"),
            ("[2001:db8::1]:7", "[2001:db8::1]:7"),
            ("cp-1.example.com", "cp-1.example.com:50000"),
        ] {
            assert_eq!(node(text).expect(text).to_string(), expected);
        }
        for wrong in ["", "a b", "host:", "host:x", "192.0.2.999"] {
            assert!(node(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_outcome_says_how_many_failed_and_how() {
        let node = || node("192.0.2.1").expect("a node");
        let late = || Failure::deadline("b", "no answer", Duration::from_secs(1));
        let all: Answers<()> = Answers { done: vec![(node(), ())], failed: Vec::new() };
        assert_eq!(all.outcome(), Ok(()));
        let some = Answers { done: vec![(node(), ())], failed: vec![late()] };
        assert_eq!(some.outcome().map_err(|failure| failure.kind), Err(Kind::Partial));
        let none: Answers<()> = Answers { done: Vec::new(), failed: vec![late(), late()] };
        assert_eq!(none.outcome().map_err(|failure| failure.kind), Err(Kind::Deadline));
        let mixed: Answers<()> = Answers { done: Vec::new(), failed: vec![late(), Failure::new("c", "refused")] };
        let failure = mixed.outcome().expect_err("a failure");
        assert_eq!(
            (failure.kind, failure.to_string().as_str()),
            (Kind::Failed, "b: no answer within 1s; give it more time with --timeout\nc: refused")
        );
    }
}
