//! Which accelerators to try. On some hosts /dev/kvm is there and guests hang under it: finding that out takes a while, so it is remembered
//! until the host boots again.

use std::fs;
use std::path::{Path, PathBuf};

use testbed::{Accelerator, Machine};

use crate::failure::Failure;
use crate::files;

const KVM: &str = "/dev/kvm";

/// What was found out about this host.
#[derive(Debug)]
pub struct Accelerators {
    pub candidates: Vec<Accelerator>,
    memory: PathBuf,
}

impl Accelerators {
    /// `asked` is what the user wants; then nothing is tried or remembered.
    pub fn find(asked: Option<&str>, cache: &Path, host_boot_id: &str) -> Result<Accelerators, Failure> {
        let memory = cache.join("kvm-hangs");
        let mut candidates = Accelerator::candidates(asked, Path::new(KVM))?;
        let hangs = fs::read_to_string(&memory).is_ok_and(|boot| boot.trim() == host_boot_id);
        if hangs && candidates.len() > 1 {
            candidates.retain(|candidate| *candidate != Accelerator::Kvm);
        }
        Ok(Accelerators { candidates, memory })
    }

    /// Remembers what the machine's start showed.
    pub fn learn(&self, machine: &Machine) {
        let record = machine.record();
        if self.candidates.first() == Some(&Accelerator::Kvm) && record.accelerator != Accelerator::Kvm {
            // Without a cache the next start takes longer; nothing else is lost.
            let _ = files::write(&self.memory, &record.process.host_boot_id, 0o644);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_is_remembered_until_the_next_boot() {
        let cache = tempfile::tempdir().expect("temporary directory");
        fs::write(cache.path().join("kvm-hangs"), "boot-1\n").expect("write");
        let find = |asked, boot| Accelerators::find(asked, cache.path(), boot).expect("candidates").candidates;
        assert_eq!(find(None, "boot-1"), [Accelerator::Tcg]);
        assert_eq!(find(Some("kvm"), "boot-1"), [Accelerator::Kvm], "the user's word counts");
        assert_eq!(find(None, "boot-2"), Accelerator::candidates(None, Path::new(KVM)).expect("candidates"));
    }
}
