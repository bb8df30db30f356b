//! Plays init at its socket: answers what the agent asks, and remembers what it was told to do.

use std::path::Path;
use std::sync::{Arc, Mutex};

use machine::disk::{Slot, Volume};
use machine::protocol::{self, BootFacts, Event, Request, Response, VolumeState, VolumeStatus};
use machine::service::{ServiceId, ServiceState, ServiceStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

#[derive(Debug, Clone)]
pub struct Init {
    asked: Arc<Mutex<Vec<Request>>>,
    state: Arc<Mutex<VolumeState>>,
    facts: Arc<Mutex<BootFacts>>,
    /// Why no disk is laid out.
    refusal: Arc<Mutex<Option<String>>>,
    events: broadcast::Sender<Event>,
}

impl Init {
    pub fn start(socket: &Path, state: VolumeState) -> Init {
        let facts = BootFacts { boot_id: "this boot".to_owned(), slot: Some(Slot::A), ..BootFacts::default() };
        Init::with(socket, state, facts)
    }

    /// With STATE open, after this boot.
    pub fn of_boot(socket: &Path, facts: BootFacts) -> Init {
        Init::with(socket, VolumeState::Open, facts)
    }

    /// Without a disk, from an installation medium.
    pub fn of_medium(socket: &Path, facts: BootFacts) -> Init {
        Init::with(socket, VolumeState::Missing, facts)
    }

    fn with(socket: &Path, state: VolumeState, facts: BootFacts) -> Init {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        // Of an init of a boot before.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let init = Init {
            asked: Arc::default(),
            state: Arc::new(Mutex::new(state)),
            facts: Arc::new(Mutex::new(facts)),
            refusal: Arc::default(),
            events: broadcast::Sender::new(64),
        };
        let served = init.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        init
    }

    /// What it was asked to do, as the requests read in Debug.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|request| format!("{request:?}")).collect()
    }

    pub fn refuse_disks(&self, reason: Option<&str>) {
        *self.refusal.lock().unwrap() = reason.map(str::to_owned);
    }

    pub fn tell(&self, event: Event) {
        self.events.send(event).unwrap();
    }

    async fn serve(self, mut stream: UnixStream) {
        while let Some(request) = read(&mut stream).await {
            self.asked.lock().unwrap().push(request.clone());
            if request == Request::Subscribe {
                return self.stream_events(stream).await;
            }
            stream.write_all(&protocol::encode(&self.answer(request)).unwrap()).await.unwrap();
        }
    }

    async fn stream_events(self, mut stream: UnixStream) {
        let mut events = self.events.subscribe();
        while let Ok(event) = events.recv().await {
            if stream.write_all(&protocol::encode(&event).unwrap()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Response {
        match request {
            Request::ListServices => {
                Response::Services(vec![service("containerd", ServiceState::Ready), service("nodeagent", ServiceState::Ready)])
            }
            Request::LayOutDisk { .. } => match self.refusal.lock().unwrap().clone() {
                Some(reason) => Response::Refused { reason },
                None => Response::Done,
            },
            Request::AdoptDisk { device } => {
                self.facts.lock().unwrap().disk = device;
                let mut state = self.state.lock().unwrap();
                if *state == VolumeState::Missing {
                    *state = VolumeState::Closed;
                }
                Response::Done
            }
            Request::OpenVolume(volume) => {
                let mut state = self.state.lock().unwrap();
                if volume == Volume::State && *state == VolumeState::Closed {
                    *state = VolumeState::Open;
                }
                drop(state);
                Response::Volume(self.volume(volume))
            }
            Request::ListVolumes => Response::Volumes(Volume::ALL.map(|volume| self.volume(volume)).to_vec()),
            Request::GetBootFacts => Response::BootFacts(Box::new(self.facts.lock().unwrap().clone())),
            _ => Response::Done,
        }
    }

    fn volume(&self, volume: Volume) -> VolumeStatus {
        let state = if volume == Volume::State { self.state.lock().unwrap().clone() } else { VolumeState::Closed };
        VolumeStatus { volume, state, size_bytes: 1 << 30, device: "/dev/vda6".to_owned() }
    }
}

pub fn service(id: &str, state: ServiceState) -> ServiceStatus {
    let id = ServiceId::new(id).unwrap();
    ServiceStatus { id, state, pid: Some(100), restarts: 0, last_exit: None, since_boot: std::time::Duration::from_secs(1) }
}

/// The next request of the agent's; none where it has gone.
pub async fn read(stream: &mut UnixStream) -> Option<Request> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; protocol::checked_length(length).unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(protocol::decode(&body).unwrap())
}
