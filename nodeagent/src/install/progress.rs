//! How far an installation is, for those at the console and those at the machine API.

use std::path::PathBuf;

use crate::node::Node;
use crate::resources::installation::{InstallationStatus, Phase};

#[derive(Debug, Clone)]
pub struct Progress {
    node: Node,
    /// `/dev/vda`
    pub device: String,
    version: String,
}

impl Progress {
    pub fn new(node: Node, device: String, version: String) -> Progress {
        Progress { node, device, version }
    }

    /// Says it everywhere.
    pub fn tell(&self, phase: Phase, line: &str) {
        self.node.console.print(line);
        self.note(phase, line);
    }

    /// Runs what writes these files and reads them back, and tells how far it is at each tenth.
    pub fn of_copy(
        &self,
        what: &str,
        from: &[&PathBuf],
        copy: impl FnOnce(&mut dyn FnMut(u64)) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let size: u64 = from.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        let (total, mut done, mut tenths) = ((2 * size).max(1), 0, 0);
        self.tell(Phase::Writing, &format!("writing {what} ({} MiB)", size.div_ceil(1 << 20)));
        copy(&mut |bytes| {
            done += bytes;
            let now = done * 10 / total;
            if now > tenths {
                tenths = now;
                self.note(Phase::Writing, &format!("writing {what}: {} %", tenths * 10));
            }
        })
    }

    fn note(&self, phase: Phase, line: &str) {
        let reason = match phase {
            Phase::Writing => "Installing",
            Phase::Installed => "Installed",
            Phase::Failed => "InstallFailed",
        };
        self.node.events.emit("machine", reason, line);
        let status = InstallationStatus { version: self.version.clone(), phase, message: line.to_owned() };
        self.node.store.put(self.device.trim_start_matches("/dev/"), &status);
    }
}
