//! `logs`, `dmesg`, `events`: what machines say, followed if asked.

use std::str::FromStr;
use std::time::Duration;

use api::v1::stream_request::Source;
use api::v1::{ContainerLog, DmesgRequest, Event, EventsRequest, StreamRequest};
use clap::Args;
use dashboard::times;
use machine::config::HostPort;
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use super::SLOW;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Format, write_bytes};
use crate::session::Session;

#[derive(Debug, Clone, Copy, Args)]
struct Follow {
    /// Go on as more comes
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last lines only
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
}

impl Follow {
    /// What is followed has no end.
    fn usual(self) -> Option<Duration> {
        if self.follow { None } else { SLOW }
    }
}

/// Show the log of a service, or of a container
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Logs {
    /// Service, such as kubelet
    #[arg(required_unless_present = "container")]
    service: Option<String>,
    /// A container instead: <namespace>/<pod>/<container>
    #[arg(short, long, value_name = "CONTAINER", conflicts_with = "service")]
    container: Option<ContainerName>,
    #[command(flatten)]
    follow: Follow,
}

/// Show the kernel's log
#[derive(Debug, Args)]
pub struct Dmesg {
    #[command(flatten)]
    follow: Follow,
}

/// Show what happened to a machine: stages, services, configs, calls that changed something
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    follow: Follow,
    /// Form of what is printed: json has one object a line
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ContainerName {
    namespace: String,
    pod: String,
    container: String,
}

impl FromStr for ContainerName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<ContainerName, &'static str> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [namespace, pod, container] if ![namespace, pod, container].iter().any(|part| part.is_empty()) => {
                Ok(ContainerName { namespace: (*namespace).to_owned(), pod: (*pod).to_owned(), container: (*container).to_owned() })
            }
            _ => Err("expected <namespace>/<pod>/<container>"),
        }
    }
}

impl Logs {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let source = match (self.service, self.container) {
            (_, Some(ContainerName { namespace, pod, container })) => Source::Container(ContainerLog { namespace, pod, container }),
            (service, None) => Source::Service(service.unwrap_or_default()),
        };
        let Follow { follow, tail } = self.follow;
        let request = StreamRequest { source: Some(source), follow, tail };
        let mark = Mark::new(world)?;
        let print = async |session: Session| {
            let mut answers = session.ask(session.log().stream(request.clone())).await?;
            while let Some(answer) = answers.next().await {
                mark.print(&session.node, &answer.map_err(|status| session.failed(&status))?.lines);
            }
            Ok(())
        };
        world.connection.each(self.follow.usual(), print).await?.outcome()
    }
}

impl Dmesg {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Follow { follow, tail } = self.follow;
        let mark = Mark::new(world)?;
        let print = async |session: Session| {
            let mut answers = session.ask(session.log().dmesg(DmesgRequest { follow, tail })).await?;
            while let Some(answer) = answers.next().await {
                let line = answer.map_err(|status| session.failed(&status))?.line;
                mark.print(&session.node, format!("{line}\n").as_bytes());
            }
            Ok(())
        };
        world.connection.each(self.follow.usual(), print).await?.outcome()
    }
}

impl Events {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let Follow { follow, tail } = self.follow;
        let mark = Mark::new(world)?;
        let print = async |session: Session| {
            let mut answers = session.ask(session.log().events(EventsRequest { follow, tail })).await?;
            while let Some(answer) = answers.next().await {
                let Some(event) = answer.map_err(|status| session.failed(&status))?.event else { continue };
                match self.output {
                    Format::Table | Format::Wide => mark.print(&session.node, line(&event).as_bytes()),
                    Format::Json => write_bytes(format!("{}\n", value(&session.node, &event)).as_bytes()),
                    Format::Yaml => write_bytes(format!("---\n{}", machine::config::yaml::print(&value(&session.node, &event))).as_bytes()),
                }
            }
            Ok(())
        };
        world.connection.each(self.follow.usual(), print).await?.outcome()
    }
}

fn line(event: &Event) -> String {
    format!("{:20}  {:32} {:14} {}\n", times::shown(event.at.as_ref()), event.subject, event.reason, event.message)
}

fn value(node: &HostPort, event: &Event) -> Value {
    let at = times::shown(event.at.as_ref());
    json!({ "node": node.to_string(), "at": at, "subject": event.subject, "reason": event.reason, "message": event.message })
}

/// Says which machine a line is from, where there are several.
#[derive(Debug, Clone, Copy)]
struct Mark {
    several: bool,
}

impl Mark {
    fn new(world: &World) -> Result<Mark, Failure> {
        Ok(Mark { several: world.connection.count()? > 1 })
    }

    fn print(self, node: &HostPort, lines: &[u8]) {
        write_bytes(&self.marked(node, lines));
    }

    /// Whole lines, each with the machine before it.
    fn marked(self, node: &HostPort, lines: &[u8]) -> Vec<u8> {
        if !self.several {
            return lines.to_vec();
        }
        let prefix = format!("{node}: ");
        lines.split_inclusive(|byte| *byte == b'\n').flat_map(|line| [prefix.as_bytes(), line].concat()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_machines_are_marked() {
        let node = crate::connection::node("cp-1").expect("a node");
        assert_eq!(Mark { several: true }.marked(&node, b"a\nb\n"), b"cp-1:50000: a\ncp-1:50000: b\n");
        assert_eq!(Mark { several: false }.marked(&node, b"a\nb\n"), b"a\nb\n");
    }

    #[test]
    fn a_container_has_three_names() {
        let name = "kube-system/coredns-x/coredns".parse::<ContainerName>().expect("a name");
        assert_eq!((name.namespace.as_str(), name.pod.as_str(), name.container.as_str()), ("kube-system", "coredns-x", "coredns"));
        for wrong in ["", "a", "a/b", "a//c", "a/b/c/d"] {
            assert!(wrong.parse::<ContainerName>().is_err(), "{wrong}");
        }
    }
}
