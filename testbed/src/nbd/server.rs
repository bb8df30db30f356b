//! Serves one store to any number of clients, until the power goes.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::protocol::{self, Command, EINVAL, EIO, MAX_PAYLOAD_BYTES, Request};
use super::store::{Content, CutReport, Geometry, Store};
use crate::Error;

/// When the power fails by itself. Numbers count from the call that sets it; the first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAt {
    /// When the guest asks for this flush, before anything of it is done.
    Flush(u64),
    /// Right after this write came in: it is in the cache, its answer is never sent.
    Write(u64),
}

#[derive(Debug)]
pub struct Server {
    state: Mutex<State>,
    /// Signalled when the power goes and when it comes back.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    store: Store,
    counts: Counts,
    trigger: Option<CutAt>,
    power: Power,
    /// Grows with each cut: clients of an older one are not served any more.
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// A trigger fired: requests stay unanswered until the cut is carried out.
    Failed,
    /// The server ends.
    Off,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub flushes: u64,
    pub writes: u64,
}

/// What a connection does after a request.
enum Answer {
    Reply { error: u32, content: Vec<u8> },
    Hang,
    Close,
}

impl Server {
    pub fn start(store: Store, socket: &Path) -> io::Result<Arc<Server>> {
        let state = State { store, counts: Counts::default(), trigger: None, power: Power::On, generation: 0 };
        let server = Arc::new(Server { state: Mutex::new(state), changed: Condvar::new() });
        let listener = UnixListener::bind(socket)?;
        let accepting = Arc::clone(&server);
        thread::spawn(move || accepting.accept(&listener));
        Ok(server)
    }

    /// The store's content as far as it was flushed, in a store of its own.
    pub fn copy(&self, directory: &Path) -> Result<Store, Error> {
        self.lock().store.copy(directory)
    }

    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.lock().store.read(offset, buffer)
    }

    /// Lasting at once, and none of the machine's writes.
    pub fn overwrite(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.store.write(offset, Content::Bytes(bytes.to_vec()))?;
        state.store.flush()
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub fn cut_at(&self, at: CutAt) {
        let mut state = self.lock();
        state.trigger = Some(match at {
            CutAt::Flush(number) => CutAt::Flush(state.counts.flushes + number),
            CutAt::Write(number) => CutAt::Write(state.counts.writes + number),
        });
    }

    pub fn wait_cut(&self, deadline: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), deadline, |state| state.power == Power::On);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.power != Power::On
    }

    pub fn cut(&self, seed: u64) -> Result<CutReport, Error> {
        let mut state = self.lock();
        let report = state.store.cut(seed).map_err(Error::file("write", "the disk's content"))?;
        state.generation += 1;
        state.trigger = None;
        state.power = Power::On;
        self.changed.notify_all();
        Ok(report)
    }

    /// Ends the accepting thread and every connection that waits for power. A connection that waits for its client ends with that.
    pub fn stop(&self, socket: &Path) {
        self.lock().power = Power::Off;
        self.changed.notify_all();
        // Wakes the accepting thread.
        let _ = UnixStream::connect(socket);
    }

    fn accept(self: &Arc<Server>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.lock().power == Power::Off {
                return;
            }
            let Ok(stream) = stream else { continue };
            let server = Arc::clone(self);
            // A client that breaks the protocol or goes away ends its own connection only.
            thread::spawn(move || drop(server.serve(stream)));
        }
    }

    fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let (geometry, generation) = {
            let state = self.lock();
            (state.store.geometry(), state.generation)
        };
        if !protocol::handshake(&mut stream, geometry)? {
            return Ok(());
        }
        loop {
            let request = protocol::read_request(&mut stream)?;
            let handle = request.handle;
            match self.answer(request, generation) {
                Answer::Reply { error, content } => protocol::write_reply(&mut stream, handle, error, &content)?,
                Answer::Close => return Ok(()),
                Answer::Hang => {
                    let waited = self.changed.wait_while(self.lock(), |state| state.power == Power::Failed);
                    drop(waited.unwrap_or_else(PoisonError::into_inner));
                    return Ok(());
                }
            }
        }
    }

    fn answer(&self, request: Request, generation: u64) -> Answer {
        let mut state = self.lock();
        match state.power {
            Power::Off => return Answer::Close,
            Power::Failed => return Answer::Hang,
            Power::On if state.generation != generation => return Answer::Close,
            Power::On => {}
        }
        let end = request.offset.checked_add(u64::from(request.length));
        let Geometry { size_bytes, sector_bytes } = state.store.geometry();
        let aligned = request.offset.is_multiple_of(sector_bytes) && u64::from(request.length).is_multiple_of(sector_bytes);
        let inside = aligned && end.is_some_and(|end| end <= size_bytes);
        let fits = !matches!(request.command, Command::Read) || request.length <= MAX_PAYLOAD_BYTES;
        let addressed = !matches!(request.command, Command::Flush | Command::Disconnect);
        if addressed && !(inside && fits) {
            return Answer::Reply { error: EINVAL, content: Vec::new() };
        }
        let answer = state.carry_out(request);
        if matches!(answer, Answer::Hang) {
            self.changed.notify_all();
        }
        answer
    }

    /// The state is whole between requests, so a thread that panicked with the lock leaves nothing half done that matters to a test.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn carry_out(&mut self, request: Request) -> Answer {
        let mut content = Vec::new();
        let done = match request.command {
            Command::Disconnect => return Answer::Close,
            Command::Unknown => return Answer::Reply { error: EINVAL, content },
            Command::Read => {
                content.resize(request.length as usize, 0);
                self.store.read(request.offset, &mut content)
            }
            Command::Flush => {
                self.counts.flushes += 1;
                if self.trigger == Some(CutAt::Flush(self.counts.flushes)) {
                    return self.fail();
                }
                self.store.flush()
            }
            Command::Write(bytes) => return self.write(request.offset, Content::Bytes(bytes), request.force_unit_access),
            Command::Trim | Command::WriteZeroes => {
                return self.write(request.offset, Content::Zeros(u64::from(request.length)), request.force_unit_access);
            }
        };
        reply(done, content)
    }

    fn write(&mut self, offset: u64, content: Content, force_unit_access: bool) -> Answer {
        self.counts.writes += 1;
        let written = self.store.write(offset, content);
        if self.trigger == Some(CutAt::Write(self.counts.writes)) {
            return self.fail();
        }
        // FUA asks for this write only. Flushing all of them keeps more than a disk must, never less.
        let done = if force_unit_access { written.and_then(|()| self.store.flush()) } else { written };
        reply(done, Vec::new())
    }

    fn fail(&mut self) -> Answer {
        self.power = Power::Failed;
        Answer::Hang
    }
}

fn reply(done: io::Result<()>, content: Vec<u8>) -> Answer {
    match done {
        Ok(()) => Answer::Reply { error: 0, content },
        Err(_) => Answer::Reply { error: EIO, content: Vec::new() },
    }
}
