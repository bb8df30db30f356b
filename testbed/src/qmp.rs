//! QEMU's machine protocol: one JSON object a line, each command answered with `return` or `error`, events in between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Error, socket};

/// How long QEMU may take to answer; its main loop can be busy under emulation.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects to `<directory>/<name>` and leaves negotiation mode.
    pub fn connect(directory: &Path, name: &str) -> Result<Qmp, Error> {
        let failed = |source: std::io::Error| Error::Qmp { command: "connect".to_owned(), reason: source.to_string() };
        let stream = socket::connect(directory, name).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let mut qmp = Qmp { writer: stream.try_clone().map_err(failed)?, reader: BufReader::new(stream) };
        qmp.read("greeting")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returns.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let failed = |reason: String| Error::Qmp { command: command.to_owned(), reason };
        let line = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        self.writer.write_all(line.as_bytes()).map_err(|e| failed(e.to_string()))?;
        loop {
            let mut answer = self.read(command)?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                return Err(failed(error["desc"].as_str().unwrap_or("no reason given").to_owned()));
            }
        }
    }

    fn read(&mut self, command: &str) -> Result<Value, Error> {
        let failed = |reason: String| Error::Qmp { command: command.to_owned(), reason };
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(failed("QEMU closed the connection".to_owned())),
            Ok(_) => serde_json::from_str(&line).map_err(|e| failed(e.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
