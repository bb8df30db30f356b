//! An init that really runs services, for tests: each under its account and with its capabilities, put again with another spec it is restarted.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use machine::Root;
use machine::account::Account;
use machine::disk::{Slot, Volume};
use machine::protocol::{self, BootFacts, Event, Request, Response, VolumeState, VolumeStatus};
use machine::service::{Capabilities, Readiness, ServiceSpec, ServiceState, ServiceStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixDatagram, UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::controllers::real_cluster::machine_under_test::{has_notified, install, spawn};
use crate::server::testing::read;

const LOOK: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct RealInit {
    root: Root,
    components: PathBuf,
    services: Arc<Mutex<BTreeMap<String, Service>>>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug)]
struct Service {
    spec: ServiceSpec,
    status: ServiceStatus,
    /// Ends the process when it ends.
    task: JoinHandle<()>,
}

impl RealInit {
    pub fn start(root: &Root, components: PathBuf) -> RealInit {
        let socket = root.init_socket();
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let init = RealInit { root: root.clone(), components, services: Arc::default(), events: broadcast::Sender::new(1024) };
        let served = init.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        init
    }

    async fn serve(self, mut stream: UnixStream) {
        while let Some(request) = read(&mut stream).await {
            if request == Request::Subscribe {
                return self.stream_events(stream).await;
            }
            let answer = self.answer(request).await;
            if stream.write_all(&protocol::encode(&answer).unwrap()).await.is_err() {
                return;
            }
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

    async fn answer(&self, request: Request) -> Response {
        match request {
            Request::ListServices => {
                Response::Services(self.services.lock().unwrap().values().map(|service| service.status.clone()).collect())
            }
            Request::PutService(spec) => {
                self.put(*spec).await;
                Response::Done
            }
            Request::RemoveService(id) => {
                let service = self.services.lock().unwrap().remove(id.as_str());
                if let Some(service) = service {
                    service.task.abort();
                    // The value that ends the process goes with the task: init tells of it once the process has ended.
                    let _ = service.task.await;
                    let _ = self.events.send(Event::ServiceRemoved(id));
                }
                Response::Done
            }
            Request::OpenVolume(volume) => Response::Volume(open(volume)),
            Request::ListVolumes => Response::Volumes(Volume::ALL.map(open).to_vec()),
            Request::GetBootFacts => {
                Response::BootFacts(Box::new(BootFacts { boot_id: "this boot".to_owned(), slot: Some(Slot::A), ..BootFacts::default() }))
            }
            _ => Response::Done,
        }
    }

    async fn put(&self, spec: ServiceSpec) {
        let id = spec.id.to_string();
        let before = self.services.lock().unwrap().remove(&id);
        if let Some(before) = before {
            if before.spec == spec {
                self.services.lock().unwrap().insert(id, before);
                return;
            }
            // Its task stops the process as the spec says, and starts the new one after it.
            self.insert(spec, Some(before.task));
            return;
        }
        self.insert(spec, None);
    }

    fn insert(&self, spec: ServiceSpec, before: Option<JoinHandle<()>>) {
        let status = status(&spec, ServiceState::Starting);
        let _ = self.events.send(Event::Service(status.clone()));
        let init = self.clone();
        let run = spec.clone();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                before.abort();
                // The value that ends the process goes with the task.
                let _ = before.await;
            }
            init.supervise(run).await;
        });
        self.services.lock().unwrap().insert(spec.id.to_string(), Service { spec, status, task });
    }

    fn tell(&self, spec: &ServiceSpec, state: ServiceState) {
        let status = status(spec, state);
        if let Some(service) = self.services.lock().unwrap().get_mut(spec.id.as_str()).filter(|service| service.spec == *spec) {
            service.status = status.clone();
        }
        let _ = self.events.send(Event::Service(status));
    }

    async fn supervise(&self, spec: ServiceSpec) {
        loop {
            self.tell(&spec, ServiceState::Starting);
            if let Err(error) = self.run_once(&spec).await {
                eprintln!("{}: {error:#}", spec.id);
            }
            self.tell(&spec, ServiceState::Starting);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Until it ends.
    async fn run_once(&self, spec: &ServiceSpec) -> Result<()> {
        install(spec, &self.components)?;
        let notify_path = self.root.path(&format!("/run/{}.notify", spec.id));
        let _ = fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path)?;
        fs::set_permissions(&notify_path, Permissions::from_mode(0o777))?;
        let log = File::options().create(true).append(true).open(self.log_path(spec.id.as_str()))?;
        // It goes with this thread, whatever ends that.
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]);
        let mut started = spec.clone();
        if let Capabilities::Only(names) = &spec.capabilities
            && !names.is_empty()
        {
            // They have to outlive the change of accounts, which is setpriv's then.
            let (id, sets) = (spec.account.id().to_string(), format!("-all,+{}", names.join(",+")));
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps", &sets, "--ambient-caps", &sets]);
            started.account = Account::Root;
        }
        if spec.no_new_privileges {
            command.arg("--no-new-privs");
        }
        command.arg(&spec.program);
        let child = spawn(&started, command, &notify_path, log)?;
        let mut process = Process { child, deadline: spec.stop.deadline };
        let mut ready = false;
        loop {
            if let Some(exit) = process.child.try_wait()? {
                anyhow::bail!("it ended with {exit}");
            }
            if !ready && is_ready(spec, &notify).await {
                ready = true;
                self.tell(spec, ServiceState::Ready);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn log_path(&self, service: &str) -> PathBuf {
        self.root.path(&format!("/run/{service}.log"))
    }
}

/// The end of each service's log.
pub fn logs(root: &Root) -> String {
    let tail = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(15).collect();
        format!("== {}\n{}\n", path.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    };
    let logs = fs::read_dir(root.path("/run")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")).map(|path| tail(&path)).collect()
}

/// Stopped when it goes: asked first, killed after its deadline.
struct Process {
    child: Child,
    deadline: Duration,
}

impl Drop for Process {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let began = std::time::Instant::now();
        while began.elapsed() < self.deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn is_ready(spec: &ServiceSpec, notify: &UnixDatagram) -> bool {
    match &spec.readiness {
        Readiness::Notify => has_notified(notify),
        Readiness::Tcp(address) => TcpStream::connect(address).await.is_ok(),
        _ => true,
    }
}

fn status(spec: &ServiceSpec, state: ServiceState) -> ServiceStatus {
    ServiceStatus { id: spec.id.clone(), state, pid: None, restarts: 0, last_exit: None, since_boot: Duration::ZERO }
}

fn open(volume: Volume) -> VolumeStatus {
    VolumeStatus { volume, state: VolumeState::Open, size_bytes: 1 << 30, device: "/dev/vda6".to_owned() }
}

/// What `make components` builds.
pub fn components() -> PathBuf {
    let directory = std::env::var_os("CORTEN_COMPONENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/components"), PathBuf::from);
    directory.canonicalize().expect("the components: run `make components` first, or set CORTEN_COMPONENTS")
}
