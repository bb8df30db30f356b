//! The audit log: who called what changes something, with what, and how it ended. A record that a call began is on STATE before the call does
//! anything; `machine::audit` has the records and what chains them.
//!
//! Until STATE is open, in maintenance, records wait in memory.

mod log;
mod sink;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use machine::audit::{Call, Event};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot, watch};

use crate::identity;
use crate::node::Node;
pub use log::{Page, page};
pub use sink::{Position, deliver};

/// Records that wait for STATE; the oldest go first.
const WAITING: usize = 256;
/// How often it is looked whether STATE is open by now.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Takes records; clones write the same log.
#[derive(Debug, Clone)]
pub struct Audit {
    sender: mpsc::UnboundedSender<Message>,
    newest: watch::Receiver<u64>,
    pub directory: PathBuf,
}

/// A call that began.
#[derive(Debug)]
pub struct Begun {
    sender: mpsc::UnboundedSender<Message>,
    id: u64,
    call: Call,
}

#[derive(Debug)]
enum Message {
    Begin { call: Call, id: oneshot::Sender<u64> },
    End { id: u64, call: Call, end: End },
    Deny { call: Call, reason: String },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub request_sha256: String,
    pub request_bytes: u64,
    /// gRPC's name of the code.
    pub code: String,
}

impl Audit {
    pub fn start(node: Node) -> Audit {
        let (sender, messages) = mpsc::unbounded_channel();
        let (told, newest) = watch::channel(0);
        let directory = node.root.audit_log();
        tokio::spawn(Writer { node, log: None, told, waiting: VecDeque::new(), ids: 0, numbers: HashMap::new() }.run(messages));
        Audit { sender, newest, directory }
    }

    /// Returns once the record is on the disk, as far as there is one.
    pub async fn begin(&self, call: Call) -> Begun {
        let (id, answer) = oneshot::channel();
        // The writer lives as long as the agent.
        let _ = self.sender.send(Message::Begin { call: call.clone(), id });
        Begun { sender: self.sender.clone(), id: answer.await.unwrap_or(0), call }
    }

    pub fn denied(&self, call: Call, reason: String) {
        let _ = self.sender.send(Message::Deny { call, reason });
    }

    /// Number of the newest record in this boot, and a way to wait for a newer one.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

impl Begun {
    pub fn end(self, end: End) {
        let _ = self.sender.send(Message::End { id: self.id, call: self.call, end });
    }
}

/// What is to be written.
#[derive(Debug)]
struct Entry {
    at: String,
    call: Call,
    what: What,
}

#[derive(Debug)]
enum What {
    Begun { id: u64 },
    Ended { id: u64, end: End },
    Denied { reason: String },
}

#[derive(Debug)]
struct Writer {
    node: Node,
    log: Option<log::Log>,
    told: watch::Sender<u64>,
    waiting: VecDeque<Entry>,
    ids: u64,
    /// Of the records that calls under way began with.
    numbers: HashMap<u64, u64>,
}

impl Writer {
    async fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut answer = None;
            tokio::select! {
                message = messages.recv() => match message {
                    None => return,
                    Some(message) => answer = self.take(message),
                },
                _ = look.tick(), if !self.waiting.is_empty() => {}
            }
            self = self.write().await;
            if let Some((id, sender)) = answer {
                // A client that went away does not wait.
                let _: Result<(), u64> = sender.send(id);
            }
        }
    }

    fn take(&mut self, message: Message) -> Option<(u64, oneshot::Sender<u64>)> {
        let at = now();
        let (entry, answer) = match message {
            Message::Begin { call, id: sender } => {
                self.ids += 1;
                let id = self.ids;
                (Entry { at, call, what: What::Begun { id } }, Some((id, sender)))
            }
            Message::End { id, call, end } => (Entry { at, call, what: What::Ended { id, end } }, None),
            Message::Deny { call, reason } => (Entry { at, call, what: What::Denied { reason } }, None),
        };
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(entry);
        answer
    }

    /// What waits goes to the disk, if that can be. Away from the threads that serve.
    async fn write(mut self) -> Writer {
        if identity::state_problem(&self.node).is_some() {
            return self;
        }
        let written = tokio::task::spawn_blocking(move || {
            if let Err(error) = self.write_waiting() {
                self.node.events.emit("audit", "Unwritten", format!("{error:#}"));
                // Not the calls': a full disk must not keep anybody from making room.
                self.log = None;
            }
            self
        });
        match written.await {
            Ok(writer) => writer,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn write_waiting(&mut self) -> anyhow::Result<()> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => log::Log::open(&self.node.root.audit_log())?,
        };
        while let Some(Entry { at, call, what }) = self.waiting.front() {
            let event = match what {
                What::Begun { .. } => Event::Begun,
                What::Ended { id, end: End { request_sha256, request_bytes, code } } => Event::Ended {
                    begun: self.numbers.remove(id).unwrap_or(0),
                    request_sha256: request_sha256.clone(),
                    request_bytes: *request_bytes,
                    code: code.clone(),
                },
                What::Denied { reason } => Event::Denied { reason: reason.clone() },
            };
            let number = log.append(at.clone(), call.clone(), event)?;
            if let What::Begun { id } = what {
                self.numbers.insert(*id, number);
            }
            self.waiting.pop_front();
            self.told.send_replace(number);
        }
        self.log = Some(log);
        Ok(())
    }
}

/// RFC 3339, to the millisecond.
fn now() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(now.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}
