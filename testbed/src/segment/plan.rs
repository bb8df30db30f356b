//! Which machines are on a segment, and what their links are like.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::front::Front;
use crate::Error;

/// In place of a port's name: all of them.
pub const ANY: &str = "*";
const FILE: &str = "segment.json";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub ports: Vec<Port>,
    /// Every rule that fits a frame applies: delays add up, each loss is drawn apart, one cut is enough.
    #[serde(default)]
    pub links: Vec<Link>,
    /// One port of the host for what several machines serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front: Option<Front>,
    /// What losses are drawn from.
    #[serde(default)]
    pub seed: u64,
}

/// Where a machine is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub name: String,
    /// The machine's directory, where both ends of the link have their sockets.
    pub directory: PathBuf,
}

/// What becomes of frames on their way from one port to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// A port's name, or [`ANY`].
    pub from: String,
    pub to: String,
    /// Only TCP segments and UDP datagrams from or to this port of a transport. None: every frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_port: Option<u16>,
    #[serde(default)]
    pub delay_ms: u64,
    /// Share of frames that are lost: 0 to 1.
    #[serde(default)]
    pub loss: f64,
    #[serde(default)]
    pub cut: bool,
}

impl Link {
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Link {
        Link { from: from.into(), to: to.into(), transport_port: None, delay_ms: 0, loss: 0.0, cut: false }
    }

    pub fn cut(mut self) -> Link {
        self.cut = true;
        self
    }

    pub fn delay(mut self, delay: Duration) -> Link {
        self.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self
    }

    pub fn loss(mut self, share: f64) -> Link {
        self.loss = share;
        self
    }

    pub fn transport_port(mut self, port: u16) -> Link {
        self.transport_port = Some(port);
        self
    }

    /// The same for the way back.
    pub fn reversed(&self) -> Link {
        Link { from: self.to.clone(), to: self.from.clone(), ..self.clone() }
    }
}

impl Plan {
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Of the directory's file.
    pub fn load(directory: &Path) -> Result<Plan, Error> {
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let plan: Plan = serde_json::from_str(&text).map_err(io::Error::from).map_err(Error::file("read", &path))?;
        plan.check()?;
        Ok(plan)
    }

    pub fn save(&self, directory: &Path) -> Result<(), Error> {
        self.check()?;
        fs::create_dir_all(directory).map_err(Error::file("make directory", directory))?;
        let path = directory.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from).map_err(Error::file("write", &path))? + "\n";
        let temporary = directory.join(format!("{FILE}.new"));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        });
        written.map_err(Error::file("write", &path))
    }

    fn check(&self) -> Result<(), Error> {
        let known = |name: &str| name == ANY || self.ports.iter().any(|port| port.name == name);
        for link in &self.links {
            let unknown = [&link.from, &link.to].into_iter().find(|name| !known(name));
            if let Some(name) = unknown {
                let names = self.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::Segment(format!("no machine {name:?} on the segment; expected {ANY:?} or one of {names}")));
            }
            if !(0.0..=1.0).contains(&link.loss) {
                return Err(Error::Segment(format!("loss {} from {} to {}; expected 0 to 1", link.loss, link.from, link.to)));
            }
        }
        let twice = self.ports.iter().enumerate().find(|(n, port)| self.ports[..*n].iter().any(|other| other.name == port.name));
        twice.map_or(Ok(()), |(_, port)| Err(Error::Segment(format!("two machines {:?} on the segment", port.name))))
    }
}
