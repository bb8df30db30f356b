//! A server that is measured: what the kernel says of it, and its end.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::param::{clock_ticks_per_second, page_size};

/// How long a server may take to listen, and how often that is tried.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Killed when the value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts it with what it prints in `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        let log = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Process { child, name })
    }

    /// An error when it ended.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended: {status}", self.name),
        }
    }

    /// In user and kernel mode, of all its threads, since it began.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let fields = self.stat()?;
        // proc_pid_stat(5): utime is field 14, stime 15; the fields here begin with the third, the state.
        let ticks = number(&fields, 14 - 3)? + number(&fields, 15 - 3)?;
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        Ok(number(&self.stat()?, 24 - 3)? * page_size() as u64)
    }

    /// From now on `VmHWM` is the highest since now (proc_pid_clear_refs(5)).
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        fs::write(&path, "5").with_context(|| format!("writing {path}"))
    }

    /// A field of /proc/PID/status that counts in kB, such as `VmRSS`.
    pub fn status_kib(&self, field: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok());
        value.with_context(|| format!("no {field} in {path}"))
    }

    fn stat(&self) -> anyhow::Result<Vec<String>> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        // The program's name stands in parentheses and may hold spaces.
        let (_, fields) = text.rsplit_once(") ").with_context(|| format!("no program name in {path}"))?;
        Ok(fields.split_whitespace().map(str::to_owned).collect())
    }
}

/// The process once it takes connections. One that ends or is late is an error that shows what it printed.
pub async fn listening(mut process: Process, address: SocketAddr, log: &Path) -> anyhow::Result<Process> {
    let printed = || fs::read_to_string(log).unwrap_or_default();
    let began = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        process.alive().with_context(printed)?;
        ensure!(began.elapsed() < PATIENCE, "{} does not listen on {address}: {}", process.name, printed());
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Ok(process)
}

fn number(fields: &[String], index: usize) -> anyhow::Result<u64> {
    let field = fields.get(index).with_context(|| format!("no field {} in /proc/<pid>/stat", index + 3))?;
    field.parse().with_context(|| format!("field {} of /proc/<pid>/stat: {field:?}", index + 3))
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_a_process_time_and_memory_and_its_end_is_seen() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut process = Process::start(
            "sh",
            Command::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 60"]),
            log.path(),
        )
        .unwrap();
        ::tests::until::until("CPU time", Duration::from_secs(10), || {
            anyhow::ensure!(process.processor_time()? > Duration::ZERO);
            Ok(())
        })
        .unwrap();
        assert!(process.resident_bytes().unwrap() > 0);
        let peak = |process: &Process| process.status_kib("VmHWM").unwrap();
        process.forget_peak().unwrap();
        assert!(peak(&process) >= process.status_kib("VmRSS").unwrap() && peak(&process) > 0);
        assert!(process.status_kib("VmNone").is_err());
        process.alive().unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        assert!(process.alive().unwrap_err().to_string().starts_with("sh ended"));
    }
}
