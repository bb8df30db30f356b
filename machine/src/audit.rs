//! The audit log: what its lines are, and what chains them. The agent writes it, `machinectl audit verify` checks it, so both use this.
//!
//! A line is `<hash> <record as JSON>`; the hash is the SHA-256 of the hash before it, a space, and the JSON as it stands there. Whoever kept
//! one [`Head`] can tell later whether anything up to it was changed or left out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub version: u32,
    /// From 1 on, without gaps.
    pub number: u64,
    /// RFC 3339, UTC, to the millisecond; the machine's own clock.
    pub at: String,
    #[serde(flatten)]
    pub call: Call,
    #[serde(flatten)]
    pub event: Event,
}

impl Record {
    pub const VERSION: u32 = 1;
}

/// Who asked for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Organizations and common name of the client certificate; empty without one.
    pub subject: String,
    /// The role that decided: `reader`, `operator`, `admin`; empty for somebody without a certificate.
    pub role: String,
    /// The other end of the connection.
    pub address: String,
    /// `/corten.machine.v1.Config/Apply`
    pub method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// On the disk before the call does anything.
    Begun,
    Ended {
        /// Number of the record that says that it began.
        begun: u64,
        /// Of the bytes of the request's body: gRPC's messages with their five-byte prefixes.
        request_sha256: String,
        request_bytes: u64,
        /// gRPC's name of the code, such as `OK` or `INVALID_ARGUMENT`; `CANCELLED` when the client went away.
        code: String,
    },
    /// The permission table said no; nothing was done.
    Denied { reason: String },
}

/// How far a chain has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Of the last record; 0 before the first.
    pub number: u64,
    /// 64 hexadecimal digits.
    pub hash: String,
}

impl Head {
    /// Before the first record.
    pub fn start() -> Head {
        Head { number: 0, hash: "0".repeat(64) }
    }

    /// After this record.
    fn after(&self, json: &str) -> Head {
        let hash = Sha256::new().chain_update(&self.hash).chain_update(" ").chain_update(json).finalize();
        Head { number: self.number + 1, hash: hex::encode(hash) }
    }

    /// The line of the next record, without the line's end, and the head after it.
    pub fn write(&self, at: String, call: Call, event: Event) -> Result<(String, Head), serde_json::Error> {
        let record = Record { version: Record::VERSION, number: self.number + 1, at, call, event };
        let json = serde_json::to_string(&record)?;
        let head = self.after(&json);
        Ok((format!("{} {json}", head.hash), head))
    }

    /// Checks that the line is the one that follows.
    pub fn read(&self, line: &str) -> Result<(Record, Head), Broken> {
        let number = self.number + 1;
        let (hash, json) = line.split_once(' ').ok_or(Broken::Form { number })?;
        let head = self.after(json);
        if head.hash != hash {
            return Err(Broken::Hash { number });
        }
        let record: Record = serde_json::from_str(json).map_err(|_| Broken::Form { number })?;
        match record.number == number {
            true => Ok((record, head)),
            false => Err(Broken::Number { expected: number, found: record.number }),
        }
    }
}

/// `17:<hash>`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}; expected <number>:<64 hexadecimal digits>, as `machinectl audit verify` prints it")]
pub struct BadHead(String);

impl FromStr for Head {
    type Err = BadHead;

    fn from_str(text: &str) -> Result<Head, BadHead> {
        let bad = || BadHead(text.chars().take(100).collect());
        let (number, hash) = text.split_once(':').ok_or_else(bad)?;
        let digits = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(bad());
        }
        Ok(Head { number: number.parse().map_err(|_| bad())?, hash: hash.to_owned() })
    }
}

/// Where a chain ends, though more follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("record {number} is no record")]
    Form { number: u64 },
    #[error("record {number} is not what was written after record {}", number - 1)]
    Hash { number: u64 },
    #[error("record {found} stands where record {expected} should")]
    Number { expected: u64, found: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let text = |text: &str| text.to_owned();
        Call {
            subject: text("os:admin/alice"),
            role: text("admin"),
            address: text("192.0.2.1:4711"),
            method: text("/corten.machine.v1.Config/Apply"),
        }
    }

    fn chain() -> Vec<String> {
        let ended = Event::Ended { begun: 1, request_sha256: "ab".repeat(32), request_bytes: 9, code: "OK".to_owned() };
        let mut head = Head::start();
        let mut lines = Vec::new();
        for event in [Event::Begun, ended, Event::Denied { reason: "role reader".to_owned() }] {
            let (line, next) = head.write("2026-01-02T03:04:05.678Z".to_owned(), call(), event).expect("writes");
            lines.push(line);
            head = next;
        }
        lines
    }

    fn check(lines: &[String]) -> Result<Head, Broken> {
        lines.iter().try_fold(Head::start(), |head, line| head.read(line).map(|(_, head)| head))
    }

    /// What one release wrote, all later ones read: this text stays as it is.
    #[test]
    fn version_1_is_read() {
        let written = &chain()[1];
        let json = written.split_once(' ').expect("a hash and a record").1;
        assert_eq!(
            json,
            "{\"version\":1,\"number\":2,\"at\":\"2026-01-02T03:04:05.678Z\",\"subject\":\"os:admin/alice\",\"role\":\"admin\",\
             \"address\":\"192.0.2.1:4711\",\"method\":\"/corten.machine.v1.Config/Apply\",\"event\":\"ended\",\"begun\":1,\
             \"requestSha256\":\"abababababababababababababababababababababababababababababababab\",\"requestBytes\":9,\"code\":\"OK\"}"
        );
    }

    #[test]
    fn any_change_is_found() {
        let lines = chain();
        let head = check(&lines).expect("a chain");
        assert_eq!(head.number, 3);
        assert_eq!(head.to_string().parse::<Head>(), Ok(head));

        let mut changed = lines.clone();
        changed[1] = changed[1].replace("alice", "mallory");
        assert_eq!(check(&changed), Err(Broken::Hash { number: 2 }));
        let without = [lines[0].clone(), lines[2].clone()];
        assert_eq!(check(&without), Err(Broken::Hash { number: 2 }));
        let swapped = [lines[1].clone(), lines[0].clone(), lines[2].clone()];
        assert_eq!(check(&swapped), Err(Broken::Hash { number: 1 }));
        assert_eq!(check(&["".to_owned()]), Err(Broken::Form { number: 1 }));

        // Somebody who can compute hashes, but miscounts.
        let ahead = Head { number: 5, ..Head::start() };
        let (line, _) = ahead.write(String::new(), call(), Event::Begun).expect("writes");
        assert_eq!(Head::start().read(&line), Err(Broken::Number { expected: 1, found: 6 }));
    }

    #[test]
    fn heads_of_another_form_are_refused() {
        for text in ["", "1", "1:ab", "x:".to_owned().as_str(), &format!("1:{}", "G".repeat(64)), &format!("-1:{}", "0".repeat(64))] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }
}
