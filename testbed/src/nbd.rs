//! A disk for QEMU that can lose power, served over the NBD protocol on a unix socket.
//!
//! Like a real disk with a volatile cache it holds written sectors back until the guest flushes (or writes with FUA). [`NbdDisk::cut`] takes
//! the power away: each unflushed write survives, is lost, or is torn between sectors, as the seed says. That a later write survives where an
//! earlier one is lost is what reordering looks like from the platter. Afterwards the disk can be served to the next machine.

mod extents;
mod platter;
mod protocol;
mod server;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::Error;
pub use server::CutAt;
use server::Server;
pub use store::CutReport;
use store::{Geometry, Store};

/// Size of a sector, where nothing else is asked for. What a power cut never tears: a sector is written whole or not at all.
pub const SECTOR_BYTES: u64 = 512;

#[derive(Debug)]
pub struct NbdDisk {
    server: Arc<Server>,
    socket: PathBuf,
    geometry: Geometry,
    /// Holds the socket and what was written.
    _directory: TempDir,
}

impl NbdDisk {
    /// A disk of `size_bytes` that reads as the raw image `base` (zeros beyond its end) until it is written to. `base` is never changed.
    /// A disk smaller than the image is an error.
    pub fn over(base: &Path, size_bytes: u64) -> Result<NbdDisk, Error> {
        let needed = std::fs::metadata(base).map_err(Error::file("look at", base))?.len();
        if size_bytes < needed {
            return Err(Error::DiskTooSmall { asked: size_bytes, needed, image: base.to_owned() });
        }
        NbdDisk::serve(Some(base), Geometry { size_bytes, sector_bytes: SECTOR_BYTES })
    }

    /// A disk of zeros.
    pub fn empty(size_bytes: u64) -> Result<NbdDisk, Error> {
        NbdDisk::empty_with_sectors(size_bytes, SECTOR_BYTES)
    }

    /// A disk of zeros with sectors of this size, 512 or 4096, of which `size_bytes` is a multiple.
    pub fn empty_with_sectors(size_bytes: u64, sector_bytes: u64) -> Result<NbdDisk, Error> {
        if ![512, 4096].contains(&sector_bytes) || !size_bytes.is_multiple_of(sector_bytes) {
            return Err(Error::Sectors { size_bytes, sector_bytes });
        }
        NbdDisk::serve(None, Geometry { size_bytes, sector_bytes })
    }

    fn serve(base: Option<&Path>, geometry: Geometry) -> Result<NbdDisk, Error> {
        let directory = directory()?;
        let store = Store::open(base, geometry, directory.path())?;
        NbdDisk::with(store, geometry, directory)
    }

    fn with(store: Store, geometry: Geometry, directory: TempDir) -> Result<NbdDisk, Error> {
        let socket = directory.path().join("nbd.sock");
        let server = Server::start(store, &socket).map_err(Error::file("serve a disk at", &socket))?;
        Ok(NbdDisk { server, socket, geometry, _directory: directory })
    }

    /// Another disk with what was flushed to this one: several tests can go on from one state.
    pub fn copy(&self) -> Result<NbdDisk, Error> {
        let directory = directory()?;
        let store = self.server.copy(directory.path())?;
        NbdDisk::with(store, self.geometry, directory)
    }

    /// Reads as the machine does: what was written last, flushed or not.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.server.read(offset, buffer).map_err(Error::file("read", &self.socket))
    }

    /// Changes what is on the platter, as a failing disk does; whatever was written before is flushed as well. The machine should be off: what
    /// it knows of the disk it does not read again.
    pub fn overwrite(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.server.overwrite(offset, bytes).map_err(Error::file("write", &self.socket))
    }

    pub fn size_bytes(&self) -> u64 {
        self.geometry.size_bytes
    }

    pub fn sector_bytes(&self) -> u64 {
        self.geometry.sector_bytes
    }

    /// For [`crate::MachineSpec::nbd`], `nbd+unix:///?socket=...`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Flushes asked for since the disk was made.
    pub fn flushes(&self) -> u64 {
        self.server.counts().flushes
    }

    /// Writes, zero-writes and trims asked for since the disk was made.
    pub fn writes(&self) -> u64 {
        self.server.counts().writes
    }

    /// Lets the power fail by itself: from then on no request is answered. Replaces a trigger set before.
    pub fn cut_at(&self, at: CutAt) {
        self.server.cut_at(at);
    }

    /// Waits until the trigger fired; `false` if it did not before the deadline.
    pub fn wait_cut(&self, deadline: Duration) -> bool {
        self.server.wait_cut(deadline)
    }

    /// Takes the power away and gives it back: unflushed writes meet the fate that `seed` decides, and clients from before are cut off. End
    /// the machine first, or at once afterwards: it would see a dead disk.
    pub fn cut(&self, seed: u64) -> Result<CutReport, Error> {
        self.server.cut(seed)
    }
}

fn directory() -> Result<TempDir, Error> {
    let directory = tempfile::Builder::new().prefix("corten-disk-").tempdir();
    directory.map_err(Error::file("make a directory in", std::env::temp_dir()))
}

impl Drop for NbdDisk {
    fn drop(&mut self) {
        self.server.stop(&self.socket);
    }
}
