//! Requests to a running switch.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, socket};

pub const SOCKET: &str = "control.sock";
/// The switch answers between two frames. A client that says nothing holds it up no longer than the second.
const PATIENCE: Duration = Duration::from_secs(10);
const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Read the plan anew.
    Reload,
    Status,
    Stop,
}

/// What a switch has carried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub ports: Vec<PortStatus>,
}

/// Frames of one port since the switch has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    pub name: String,
    /// From the machine.
    pub received: u64,
    /// To the machine.
    pub sent: u64,
    /// For the machine, but lost: by a rule, or because it took none.
    pub lost: u64,
}

pub type Answer = Result<Status, String>;

pub fn ask(directory: &Path, request: Request) -> Result<Status, Error> {
    let answer = exchange(directory, request).map_err(Error::file("ask the switch at", directory.join(SOCKET)))?;
    answer.map_err(Error::Segment)
}

fn exchange(directory: &Path, request: Request) -> io::Result<Answer> {
    let mut stream = socket::connect(directory, SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, &request)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Takes one request and answers it; gives what was asked, so that the switch can stop after it has said so.
pub fn answer(listener: &UnixListener, carry_out: impl FnOnce(Request) -> Answer) -> io::Result<Request> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let request = serde_json::from_str(&line)?;
    let answer = carry_out(request);
    // What was done is done, whether or not the client still listens.
    let _ = send(&mut stream, &answer);
    Ok(request)
}

fn send(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}
