//! How the guest's instructions are carried out.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Whether the console shows that a kernel runs, so that the accelerator works. One that is told to be quiet, as in our images, leaves the
/// first word to init.
pub fn guest_spoke(console: &str) -> bool {
    console.contains("Linux version") || console.contains("] corten: ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's virtualisation.
    Kvm,
    /// Emulation, one thread a CPU.
    Tcg,
    /// Emulation in which time is counted in instructions: guest time repeats to 1 %. One CPU only.
    Icount,
}

impl Accelerator {
    /// What to try, in order. `asked` is the value of CORTEN_ACCEL. KVM stands before TCG where its device can be opened; on some hosts a
    /// guest hangs under it all the same, so the caller goes on to the next one unless the kernel speaks.
    pub fn candidates(asked: Option<&str>, kvm_device: &Path) -> Result<Vec<Accelerator>, Error> {
        match asked {
            Some("kvm") => Ok(vec![Accelerator::Kvm]),
            Some("tcg") => Ok(vec![Accelerator::Tcg]),
            Some("icount") => Ok(vec![Accelerator::Icount]),
            None | Some("") => {
                let usable = File::options().read(true).write(true).open(kvm_device).is_ok();
                let all = [Accelerator::Kvm, Accelerator::Tcg];
                Ok(if usable { all.to_vec() } else { all[1..].to_vec() })
            }
            Some(other) => Err(Error::UnknownAccelerator { value: other.to_owned() }),
        }
    }

    /// QEMU's arguments. EPYC: with an Intel model the kernel isolates page tables, which makes system calls 20 times slower under
    /// emulation; without `-cx16` QEMU 7.2's cmpxchg16b corrupts the flags register under load. `sleep=on`: a CPU that waits for the disk
    /// waits in real time. With `sleep=off` the guest's clock jumps to its next timer before the disk has answered: the same boot then
    /// took 21 s once and 49 s another time; with it, 18.65 s and 18.69 s.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Accelerator::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => &["-accel", "tcg,thread=multi", "-cpu", "EPYC,-cx16"],
            Accelerator::Icount => &["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on", "-cpu", "EPYC,-cx16"],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
            Accelerator::Icount => "icount",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_the_only_candidate() {
        let none = Path::new("/nonexistent");
        assert_eq!(Accelerator::candidates(Some("kvm"), none).expect("kvm"), [Accelerator::Kvm]);
        assert_eq!(Accelerator::candidates(Some("icount"), none).expect("icount"), [Accelerator::Icount]);
        assert!(Accelerator::candidates(Some("xen"), none).is_err());
    }

    #[test]
    fn a_quiet_kernel_is_heard_by_its_init_and_the_firmware_alone_is_no_guest() {
        assert!(guest_spoke("[    0.000000] Linux version 6.12.1"));
        assert!(guest_spoke("BdsDxe: starting Boot0001\n[    1.204] corten: slot a on /dev/vda"));
        assert!(!guest_spoke("BdsDxe: starting Boot0001 \"corten0\""));
    }

    #[test]
    fn kvm_is_tried_where_its_device_opens() {
        let device = tempfile::NamedTempFile::new().expect("temporary file");
        assert_eq!(Accelerator::candidates(None, device.path()).expect("both"), [Accelerator::Kvm, Accelerator::Tcg]);
        assert_eq!(Accelerator::candidates(None, Path::new("/nonexistent")).expect("tcg"), [Accelerator::Tcg]);
    }
}
