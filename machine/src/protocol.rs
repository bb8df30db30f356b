//! The messages between init and nodeagent, over one unix stream socket. Both programs come from one image, so the messages have no
//! versions. A frame is a length (u32, little endian, at most [`MAX_FRAME_BYTES`]) and that many bytes of JSON.
//!
//! The agent sends a [`Request`], init answers each with one [`Response`], in order. Starts, stops and removals are answered once they are
//! under way, [`Request::OpenVolume`] once the volume is open or cannot be. After [`Request::Subscribe`] the connection carries [`Event`]s
//! only: first a status for each service and volume, then changes as they come.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::disk::{Partition, Slot, Volume};
use crate::service::{ServiceId, ServiceSpec, ServiceStatus};

/// Largest message: a service table of hundreds of entries is far below it.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Makes the service known and starts it; equal to the known one: nothing happens; different: it is restarted with the new spec.
    /// A service that a user stopped stays stopped.
    PutService(Box<ServiceSpec>),
    /// Stops the service and forgets it.
    RemoveService(ServiceId),
    StartService(ServiceId),
    StopService(ServiceId),
    RestartService(ServiceId),
    ListServices,
    Subscribe,
    /// Makes the volume (once in its life), checks and repairs it, grows it to its partition, mounts it. Open already: nothing happens.
    OpenVolume(Volume),
    ListVolumes,
    /// Replaces the watchdog's timeout.
    SetWatchdog {
        timeout: Duration,
    },
    /// How far the boot of an image on trial has come; see [`Proof`]. Without a trial it changes nothing.
    ProveBoot(Proof),
    /// What init found at boot.
    GetBootFacts,
    /// Writes a partition table with what [`ImageFacts::partitions`] names to a whole disk, for an installation. Only on a machine that was
    /// booted from an installation medium or from the network and has adopted no disk. `wipe` allows a disk that holds anything else than
    /// zeros or an installation that was cut short. The table is durable, the kernel has read it and the first MiB of each partition is
    /// zero when this is answered.
    LayOutDisk {
        device: String,
        wipe: bool,
    },
    /// Takes a disk that an installation has filled as this machine's own, so that its volumes can be opened. Only on a machine that was
    /// booted from an installation medium or from the network. The same disk once more: nothing happens.
    AdoptDisk {
        device: String,
    },
    /// Stops all services in order, unmounts, wipes the named volumes, and ends the boot.
    Power {
        action: PowerAction,
        wipe: Vec<Volume>,
        reason: String,
    },
}

/// The state of the health gate, as the agent tells it to init while the boot loader counts the tries of the booted image
/// ([`BootFacts::counted`]). Until `Good`, init feeds the watchdog only for as long as the agent vouches for, and reboots when that is over:
/// an agent that crashes, hangs or never comes up cannot keep a bad image running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// Not decided yet: go on for so long from now, an hour at most. The last word counts, but the first five minutes after kernel entry
    /// are free in any case.
    Pending { within: Duration },
    /// The image is good: from now on init's own loop is all that the watchdog asks for.
    Good,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PowerAction {
    Reboot,
    PowerOff,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Response {
    Done,
    Services(Vec<ServiceStatus>),
    Volume(VolumeStatus),
    Volumes(Vec<VolumeStatus>),
    BootFacts(Box<BootFacts>),
    /// What was asked could not be done: the whole chain of causes in one line.
    Refused {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    Service(ServiceStatus),
    ServiceRemoved(ServiceId),
    Volume(VolumeStatus),
}

/// What init tells about a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    pub volume: Volume,
    #[serde(flatten)]
    pub state: VolumeState,
    /// Size of the partition; 0 where there is none.
    pub size_bytes: u64,
    /// Device node, such as `/dev/vda6`.
    pub device: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum VolumeState {
    /// The disk has no such partition.
    Missing,
    /// There, not mounted.
    Closed,
    /// mkfs, check, repair or growth is under way.
    Opening,
    Open,
    /// It cannot be opened and is left as it is.
    Broken {
        reason: String,
    },
}

/// What the image says of itself, written by image-build into the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// `0.1.0`
    pub version: String,
    /// `controlplane` or `worker`.
    pub profile: String,
    /// `x86_64`
    pub architecture: String,
    /// `v1.37.1`; empty without Kubernetes.
    pub kubernetes: String,
    /// `v3.7.3`; empty in an image without etcd.
    #[serde(default)]
    pub etcd: String,
    /// Seconds since the epoch: SOURCE_DATE_EPOCH of the build. The clock never starts before it.
    pub built_at: u64,
    /// What a disk that the image is installed on has, in this order.
    #[serde(default)]
    pub partitions: Vec<Partition>,
}

/// What init found and did on the way up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootFacts {
    pub boot_id: String,
    /// What the machine was booted from.
    #[serde(default)]
    pub medium: Medium,
    /// Where the machine runs: `metal`, `qemu`, `aws`, ... (kernel parameter `corten.platform`); empty where the command line has none.
    #[serde(default)]
    pub platform: String,
    /// File name of the boot loader's entry, such as `corten-b+2-1.conf`: the name that a counted entry has since the loader counted this
    /// boot. Empty without a boot loader.
    #[serde(default)]
    pub entry: String,
    /// Whether the boot loader counts the tries of that entry: the image is not yet known to be good.
    #[serde(default)]
    pub counted: bool,
    /// Device node of the disk that was booted, such as `/dev/vda`; empty where it was no disk of Corten's.
    pub disk: String,
    pub slot: Option<Slot>,
    /// dm-verity root hash, lower-case hex.
    pub root_hash: String,
    /// Whether this boot made STATE.
    pub first_boot: bool,
    /// Steps in the order in which they ran.
    pub steps: Vec<StepRecord>,
}

/// What a machine was booted from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Medium {
    /// A disk with Corten's partitions.
    #[default]
    Disk,
    /// The ISO image: on an optical drive, or written to a USB stick.
    Iso,
    /// Kernel and initramfs that came over the network, with the root in the initramfs.
    Network,
}

/// One step of the boot sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    pub name: String,
    /// Time since kernel entry when it began.
    pub began: Duration,
    pub took: Duration,
    /// What went wrong, where the boot went on nevertheless.
    pub error: Option<String>,
}

/// Writes one frame.
pub fn write_frame(to: &mut impl io::Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Reads one frame; an end of the stream before the first byte is `UnexpectedEof`.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl io::Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut body = vec![0; checked_length(length)?];
    from.read_exact(&mut body)?;
    decode(&body)
}

/// A frame's bytes, length included.
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_FRAME_BYTES {
        let text = format!("message of {} bytes; the limit is {MAX_FRAME_BYTES}", body.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The body's length as a frame's first four bytes give it.
pub fn checked_length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME_BYTES {
        let text = format!("frame of {length} bytes announced; the limit is {MAX_FRAME_BYTES}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(length)
}

/// A frame's body as a message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(body)?)
}
