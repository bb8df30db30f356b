//! init on a directory: real processes, real sockets, the same event loop as on a machine. cgroups, mounts and power are what a machine
//! adds; the VM tests cover them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use machine::Root;
use machine::account::Account;
use machine::disk::{self, Partition, Volume};
use machine::protocol::{self, BootFacts, Event, ImageFacts, Medium, PowerAction, Proof, Request, Response, VolumeState};
use machine::service::{
    Capabilities, Exit, Filesystem, Readiness, Resources, Restart, RestartPolicy, ServiceId, ServiceSpec, ServiceState, ServiceStatus,
    Slice, Stop, StopScope,
};

/// Longer than anything here takes, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Init {
    process: Child,
    directory: tempfile::TempDir,
    events: UnixStream,
    /// What was last told of each service.
    told: BTreeMap<String, ServiceStatus>,
}

impl Init {
    fn start() -> Init {
        Init::start_with(|_| {})
    }

    /// Starts it on a directory that has been filled before.
    fn start_with(fill: impl FnOnce(&Root)) -> Init {
        let directory = tempfile::tempdir().expect("temporary directory");
        fill(&Root::new(directory.path()));
        let mut process = Command::new(env!("CARGO_BIN_EXE_init"))
            .arg("supervise")
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("init starts");
        let lines = BufReader::new(process.stderr.take().expect("stderr"));
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(|line| println!("{line}")));
        let socket = Root::new(directory.path()).init_socket();
        let mut events = connect(&socket);
        protocol::write_frame(&mut events, &Request::Subscribe).expect("subscribe");
        Init { process, directory, events, told: BTreeMap::new() }
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    fn ask(&self, request: Request) -> Response {
        let mut stream = connect(&self.root().init_socket());
        protocol::write_frame(&mut stream, &request).expect("send");
        protocol::read_frame(&mut stream).expect("answer")
    }

    fn put(&self, spec: &ServiceSpec) {
        assert_eq!(self.ask(Request::PutService(Box::new(spec.clone()))), Response::Done);
    }

    fn list(&self) -> Vec<ServiceStatus> {
        match self.ask(Request::ListServices) {
            Response::Services(services) => services,
            other => panic!("expected services, got {other:?}"),
        }
    }

    /// Reads events until one of a service fits.
    fn until(&mut self, id: &str, what: &str, fits: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.told.get(id).filter(|status| fits(status)) {
                return status.clone();
            }
            match self.event(deadline) {
                Some(Event::Service(status)) => {
                    self.told.insert(status.id.to_string(), status);
                }
                Some(Event::ServiceRemoved(id)) => {
                    self.told.remove(id.as_str());
                }
                Some(Event::Volume(_)) => {}
                None => panic!("{id} never was {what}; last: {:?}", self.told.get(id)),
            }
        }
    }

    fn until_state(&mut self, id: &str, state: ServiceState) -> ServiceStatus {
        self.until(id, &format!("{state:?}"), |status| status.state == state)
    }

    fn until_removed(&mut self, id: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(event) = self.event(deadline) {
            if matches!(&event, Event::ServiceRemoved(removed) if removed.as_str() == id) {
                self.told.remove(id);
                return;
            }
        }
        panic!("{id} was not removed");
    }

    fn event(&mut self, deadline: Instant) -> Option<Event> {
        let left = deadline.checked_duration_since(Instant::now())?;
        self.events.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("timeout");
        match protocol::read_frame(&mut self.events) {
            Ok(event) => Some(event),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("events ended: {error}"),
        }
    }

    fn log(&self, id: &str) -> Vec<String> {
        let path = self.root().early_log_directory().join(format!("{id}.log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What init leaves behind when it is killed.
        for status in self.told.values() {
            if let Some(pid) = status.pid.and_then(|pid| rustix::process::Pid::from_raw(pid as i32)) {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn connect(socket: &Path) -> UnixStream {
    wait_for("init's socket", || UnixStream::connect(socket).ok())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).expect("legal name")
}

/// A service that runs a shell script (of the host: the image has no shell).
fn shell(name: &str, script: &str) -> ServiceSpec {
    ServiceSpec {
        id: id(name),
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        environment: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
        account: Account::Root,
        capabilities: Capabilities::All,
        no_new_privileges: false,
        filesystem: Filesystem::Host,
        slice: Slice::System,
        resources: Resources::default(),
        open_files: 1024,
        oom_score_adjust: 0,
        after: Vec::new(),
        readiness: Readiness::Started,
        restart: Restart { policy: RestartPolicy::Always, backoff_min: Duration::from_millis(20), backoff_max: Duration::from_secs(5) },
        stop: Stop { deadline: Duration::from_secs(20), whole: StopScope::Cgroup },
        files_digest: String::new(),
    }
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn put_runs_a_service_once_and_restarts_it_only_for_another_spec() {
    let mut init = Init::start();
    let spec = shell("a", "exec sleep 1000");
    init.put(&spec);
    let first = init.until_state("a", ServiceState::Ready);
    init.put(&spec);
    assert_eq!(init.list(), std::slice::from_ref(&first), "an equal spec changes nothing");

    init.put(&ServiceSpec { files_digest: "other".into(), ..spec });
    let second = init.until("a", "restarted", |status| status.state == ServiceState::Ready && status.pid != first.pid);
    assert_eq!((second.restarts, second.last_exit), (0, Some(Exit::Signal(15))));
    assert!(!is_alive(first.pid.expect("pid")));
}

#[test]
fn service_that_ends_is_started_again_with_growing_waits() {
    let mut init = Init::start();
    init.put(&shell("a", "exit 3"));
    let status = init.until("a", "restarted thrice", |status| status.restarts >= 3);
    assert_eq!(status.last_exit, Some(Exit::Code(3)));
    let wait = |status: &ServiceStatus| match &status.state {
        ServiceState::Backoff { retry_in } => Some(*retry_in),
        _ => None,
    };
    let later = init.until("a", "waiting", |status| wait(status).is_some_and(|wait| wait >= Duration::from_millis(160)));
    assert!(wait(&later) <= Some(Duration::from_secs(5)));

    init.ask(Request::StopService(id("a")));
    init.until_state("a", ServiceState::Stopped);
}

#[test]
fn policies_leave_services_ended() {
    let mut init = Init::start();
    let with = |name: &str, script: &str, policy| {
        let spec = shell(name, script);
        ServiceSpec { restart: Restart { policy, ..spec.restart.clone() }, ..spec }
    };
    init.put(&with("never", "exit 1", RestartPolicy::Never));
    init.put(&with("clean", "exit 0", RestartPolicy::OnFailure));
    init.put(&with("failing", "exit 1", RestartPolicy::OnFailure));
    assert_eq!(init.until_state("never", ServiceState::Ended).last_exit, Some(Exit::Code(1)));
    assert_eq!(init.until_state("clean", ServiceState::Ended).last_exit, Some(Exit::Code(0)));
    init.until("failing", "restarted", |status| status.restarts >= 1);
}

#[test]
fn services_start_after_others_are_ready_and_stop_before_them() {
    let mut init = Init::start();
    let directory = init.directory.path().to_owned();
    let trace = directory.join("trace");
    let script = |name: &str| {
        format!("echo {name} up >> {0}; trap 'echo {name} down >> {0}; exit 0' TERM; while :; do sleep 0.02; done", trace.display())
    };
    let mut second = shell("second", &script("second"));
    second.after = vec![id("first")];
    init.put(&second);
    init.until_state("second", ServiceState::Waiting { after: vec![id("first")] });

    let socket = directory.join("first.sock");
    let mut first = shell("first", &script("first"));
    first.readiness = Readiness::UnixSocket(socket.clone());
    init.put(&first);
    init.until_state("first", ServiceState::Starting);
    let _listener = UnixListener::bind(socket).expect("bind");
    init.until_state("first", ServiceState::Ready);
    init.until_state("second", ServiceState::Ready);
    let lines = || fs::read_to_string(&trace).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    wait_for("both to trap", || (lines().len() == 2).then_some(()));

    assert_eq!(init.ask(Request::Power { action: PowerAction::Reboot, wipe: Vec::new(), reason: "test".into() }), Response::Done);
    let status = wait_for("init's end", || init.process.try_wait().expect("wait"));
    assert!(status.success());
    assert_eq!(lines(), ["first up", "second up", "second down", "first down"]);
}

#[test]
fn readiness_by_notification() {
    let mut init = Init::start();
    // perl is essential in Debian; sh has no datagram sockets.
    let script = r#"use Socket; socket(S, PF_UNIX, SOCK_DGRAM, 0); send(S, "STATUS=soon", 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die;
        sleep 1 until -e $ENV{GO}; send(S, "READY=1\n", 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die; sleep 1000;"#;
    let go = init.directory.path().join("go");
    let mut spec = shell("a", "");
    spec.program = "/usr/bin/perl".into();
    spec.args = vec!["-e".into(), script.into()];
    spec.environment.insert("GO".into(), go.display().to_string());
    spec.readiness = Readiness::Notify;
    init.put(&spec);
    init.until_state("a", ServiceState::Starting);
    fs::write(go, "").expect("go");
    init.until_state("a", ServiceState::Ready);
}

#[test]
fn service_that_ignores_sigterm_is_killed_with_all_its_processes() {
    let mut init = Init::start();
    let child = init.directory.path().join("child");
    let mut spec = shell("a", &format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait", child.display()));
    spec.stop.deadline = Duration::from_millis(100);
    init.put(&spec);
    let pid: u32 = wait_for("the child", || fs::read_to_string(&child).ok()?.trim().parse().ok());

    init.ask(Request::StopService(id("a")));
    init.until_state("a", ServiceState::Stopping);
    let stopped = init.until_state("a", ServiceState::Stopped);
    assert_eq!(stopped.last_exit, Some(Exit::Signal(9)));
    wait_for("the child's end", || (!is_alive(pid)).then_some(()));
}

#[test]
fn stop_of_the_main_process_leaves_others_running() {
    let mut init = Init::start();
    let child = init.directory.path().join("child");
    let mut spec = shell("a", &format!("sleep 1000 & echo $! > {}; wait", child.display()));
    spec.stop.whole = StopScope::MainProcess;
    init.put(&spec);
    let pid: u32 = wait_for("the child", || fs::read_to_string(&child).ok()?.trim().parse().ok());
    init.ask(Request::StopService(id("a")));
    init.until_state("a", ServiceState::Stopped);
    assert!(is_alive(pid), "a shim goes on without containerd");
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).expect("pid"), rustix::process::Signal::KILL).expect("kill");
    wait_for("init to reap the orphan", || (!is_alive(pid)).then_some(()));
}

#[test]
fn user_stop_holds_against_puts_until_a_start() {
    let mut init = Init::start();
    let spec = shell("a", "exec sleep 1000");
    init.put(&spec);
    init.until_state("a", ServiceState::Ready);
    init.ask(Request::StopService(id("a")));
    init.until_state("a", ServiceState::Stopped);
    init.put(&ServiceSpec { files_digest: "other".into(), ..spec });
    assert_eq!(init.list()[0].state, ServiceState::Stopped);
    assert_eq!(init.ask(Request::StartService(id("a"))), Response::Done);
    init.until_state("a", ServiceState::Ready);
}

#[test]
fn removed_service_is_forgotten_and_its_log_stays() {
    let mut init = Init::start();
    init.put(&shell("a", "echo hello; exec sleep 1000"));
    init.until_state("a", ServiceState::Ready);
    wait_for("the log", || (init.log("a") == ["hello"]).then_some(()));
    assert_eq!(init.ask(Request::RemoveService(id("a"))), Response::Done);
    init.until_removed("a");
    assert_eq!((init.list(), init.log("a")), (Vec::new(), vec!["hello".to_owned()]));
    assert_eq!(init.ask(Request::RemoveService(id("a"))), Response::Done, "removing twice is safe");
}

#[test]
fn start_that_fails_names_the_errno_and_the_step() {
    let mut init = Init::start();
    let mut missing = shell("missing", "");
    missing.program = init.directory.path().join("missing");
    init.put(&missing);
    let status = init.until("missing", "refused", |status| status.last_exit.is_some());
    assert_eq!((status.last_exit, status.pid), (Some(Exit::Exec(2)), None));

    let mut greedy = shell("greedy", "");
    greedy.open_files = u64::MAX - 1;
    init.put(&greedy);
    let status = init.until("greedy", "refused", |status| status.last_exit.is_some());
    assert_eq!(status.last_exit, Some(Exit::Exec(1)));
    wait_for("the log", || init.log("greedy").iter().any(|line| line.contains("limit open files")).then_some(()));
}

#[test]
fn service_gets_what_its_spec_says_and_nothing_else() {
    let mut init = Init::start();
    let mut spec = shell(
        "a",
        "env | sort; id -u; id -G; ulimit -n; cat /proc/self/oom_score_adj; grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; exec sleep 1000",
    );
    spec.account = Account::KubeProxy;
    spec.capabilities = Capabilities::Only(vec!["net_bind_service".into()]);
    spec.no_new_privileges = true;
    spec.open_files = 512;
    spec.oom_score_adjust = 321;
    spec.environment.insert("A".into(), "b c".into());
    init.put(&spec);
    init.until_state("a", ServiceState::Ready);
    let lines = wait_for("the log", || Some(init.log("a")).filter(|lines| lines.len() == 11));
    let lines: Vec<String> = lines.iter().map(|line| line.replace('\t', " ")).collect();
    let only = "0000000000000400";
    let expected = [
        "A=b c".to_owned(),
        "PATH=/usr/bin:/bin".to_owned(),
        "PWD=/".to_owned(),
        "64".to_owned(),
        "64".to_owned(),
        "512".to_owned(),
        "321".to_owned(),
        format!("CapEff: {only}"),
        format!("CapBnd: {only}"),
        format!("CapAmb: {only}"),
        "NoNewPrivs: 1".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn read_only_view_has_only_its_directories_writable() {
    let mut init = Init::start();
    let top = init.directory.path().to_owned();
    // The service's user must be able to reach its directory.
    fs::set_permissions(&top, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let own: PathBuf = top.join("var/lib/own");
    fs::create_dir_all(top.join("state/pki")).expect("make");
    fs::write(top.join("state/pki/key"), "secret").expect("write");
    let script = format!(
        "echo x > {own}/file && echo own; echo x > {top}/file || echo elsewhere; echo x > /tmp/corten-init-test || echo tmp; ls {top}/state/pki || echo hidden; exec sleep 1000",
        own = own.display(),
        top = top.display()
    );
    let mut spec = shell("a", &format!("exec 2>/dev/null; {script}"));
    spec.filesystem = Filesystem::ReadOnly { writable: vec![own.clone()] };
    init.put(&spec);
    init.until_state("a", ServiceState::Ready);
    let lines = wait_for("the log", || Some(init.log("a")).filter(|lines| lines.last().is_some_and(|line| line == "hidden")));
    assert_eq!(lines, ["own", "elsewhere", "tmp", "hidden"]);
    assert_eq!(fs::read_to_string(own.join("file")).expect("written"), "x\n");
    assert_eq!(fs::read(top.join("state/pki/key")).expect("untouched"), b"secret");
}

#[test]
fn bad_requests_are_refused_with_the_reason() {
    let init = Init::start();
    let refused = |request: Request| match init.ask(request) {
        Response::Refused { reason } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    };
    let put = |change: &dyn Fn(&mut ServiceSpec)| {
        let mut spec = shell("a", "");
        change(&mut spec);
        refused(Request::PutService(Box::new(spec)))
    };
    assert!(put(&|spec| spec.program = "sh".into()).contains("absolute path"));
    assert!(put(&|spec| spec.capabilities = Capabilities::Only(vec!["fly".into()])).contains("\"fly\""));
    assert!(put(&|spec| spec.oom_score_adjust = 2000).contains("2000"));
    assert!(put(&|spec| spec.resources.cpu_weight = Some(0)).contains("cpuWeight 0"));
    assert!(put(&|spec| spec.after = vec![id("a")]).contains("a after a"));
    assert!(refused(Request::SetWatchdog { timeout: Duration::from_secs(1) }).contains("at least 10 s"));
    assert!(refused(Request::StartService(id("b"))).contains("no service b"));
    assert_eq!(init.list(), []);
}

#[test]
fn machine_without_a_disk_has_no_volumes() {
    let init = Init::start();
    let Response::Volume(status) = init.ask(Request::OpenVolume(Volume::Etcd)) else { panic!("expected a volume") };
    assert_eq!(status.state, VolumeState::Missing);
    assert_eq!(
        init.ask(Request::ListVolumes),
        Response::Volumes(Volume::ALL.map(|volume| protocol::VolumeStatus { volume, ..status.clone() }).to_vec())
    );
}

fn write_json(path: &Path, value: serde_json::Result<Vec<u8>>) {
    fs::create_dir_all(path.parent().expect("below the root")).expect("make");
    fs::write(path, value.expect("encode")).expect("write");
}

fn write_facts(root: &Root, facts: &BootFacts) {
    write_json(&root.boot_facts(), serde_json::to_vec(facts));
}

/// What sysfs would show of a disk or partition.
fn show_device(root: &Root, place: &str, size: u64, more: &str) {
    let directory = root.path("/sys/devices").join(place);
    let kind = if place.contains('/') { "partition" } else { "disk" };
    fs::create_dir_all(directory.join("queue")).expect("make");
    fs::create_dir_all(directory.join("device")).expect("make");
    fs::create_dir_all(root.path("/sys/class/block")).expect("make");
    let files = [
        ("uevent", format!("DEVTYPE={kind}\n{more}")),
        ("size", (size / 512).to_string()),
        ("ro", "0".to_owned()),
        ("dev", "254:0".to_owned()),
        ("queue/logical_block_size", "4096".to_owned()),
    ];
    files.iter().for_each(|(file, text)| fs::write(directory.join(file), text).expect("write"));
    let leaf = directory.file_name().expect("a name").to_owned();
    std::os::unix::fs::symlink(&directory, root.path("/sys/class/block").join(leaf)).expect("link");
}

#[test]
fn machine_of_an_installation_medium_gets_a_disk() {
    const PARTITIONS: [Partition; 4] = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];
    let size = disk::least_bytes(&PARTITIONS) + (1 << 30);
    let init = Init::start_with(|root| {
        write_facts(root, &BootFacts { medium: Medium::Iso, ..BootFacts::default() });
        let image = ImageFacts {
            version: "1.2.3".into(),
            profile: "worker".into(),
            architecture: "x86_64".into(),
            kubernetes: String::new(),
            etcd: String::new(),
            built_at: 0,
            partitions: PARTITIONS.to_vec(),
        };
        write_json(&root.image_facts(), serde_json::to_vec(&image));
        show_device(root, "vda", size, "");
        fs::create_dir_all(root.path("/dev")).expect("make");
        let disk = fs::File::create_new(root.path("/dev/vda")).expect("disk");
        disk.set_len(size).expect("size");
        std::os::unix::fs::FileExt::write_all_at(&disk, b"XFSB", 0).expect("write");
    });
    let root = init.root();
    let device = || "/dev/vda".to_owned();
    let refused = |request: Request| match init.ask(request) {
        Response::Refused { reason } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    };

    let reason = refused(Request::AdoptDisk { device: device() });
    assert!(reason.contains("has no partition ESP"), "{reason}");
    let reason = refused(Request::LayOutDisk { device: device(), wipe: false });
    assert!(reason.contains("/dev/vda\" holds an XFS file system"), "{reason}");
    assert_eq!(init.ask(Request::LayOutDisk { device: device(), wipe: true }), Response::Done);
    assert_eq!(init.ask(Request::LayOutDisk { device: device(), wipe: false }), Response::Done, "once more: nothing was made on it yet");

    let mut file = fs::File::open(root.path("/dev/vda")).expect("disk");
    let table = gptman::GPT::find_from(&mut file).expect("a table");
    assert_eq!(table.sector_size, 4096);
    let expected = disk::layout(&PARTITIONS, size, 4096).expect("large enough");
    for (number, extent) in (1..).zip(&expected) {
        let entry = &table[number];
        assert_eq!((entry.partition_name.as_str(), entry.starting_lba * 4096), (extent.partition.label(), extent.start));
        let uevent = format!("PARTN={number}\nPARTNAME={}\n", extent.partition.label());
        show_device(&root, &format!("vda/vda{number}"), extent.size, &uevent);
    }

    assert_eq!(init.ask(Request::AdoptDisk { device: device() }), Response::Done);
    assert_eq!(init.ask(Request::AdoptDisk { device: device() }), Response::Done, "the same once more");
    let Response::Volumes(volumes) = init.ask(Request::ListVolumes) else { panic!("expected volumes") };
    let shown: Vec<_> = volumes.iter().map(|volume| (volume.volume, volume.state.clone(), volume.device.as_str())).collect();
    let expected = [
        (Volume::State, VolumeState::Closed, "/dev/vda3"),
        (Volume::Etcd, VolumeState::Missing, ""),
        (Volume::Ephemeral, VolumeState::Closed, "/dev/vda4"),
    ];
    assert_eq!(shown, expected);
    let Response::BootFacts(facts) = init.ask(Request::GetBootFacts) else { panic!("expected facts") };
    assert_eq!((facts.disk.as_str(), facts.first_boot, facts.medium), ("/dev/vda", true, Medium::Iso));
    let reason = refused(Request::LayOutDisk { device: device(), wipe: true });
    assert!(reason.contains("has taken /dev/vda as its own disk"), "{reason}");
}

#[test]
fn machine_that_was_booted_from_its_disk_gets_no_other() {
    let init = Init::start_with(|root| write_facts(root, &BootFacts { disk: "/dev/vda".into(), ..BootFacts::default() }));
    for request in [Request::LayOutDisk { device: "/dev/vdb".into(), wipe: true }, Request::AdoptDisk { device: "/dev/vdb".into() }] {
        let Response::Refused { reason } = init.ask(request) else { panic!("expected a refusal") };
        assert!(reason.contains("booted from its disk /dev/vda"), "{reason}");
    }
}

/// Five minutes after kernel entry the time that is free for all is over: on a host that has been up for longer init ends at once.
#[test]
fn boot_on_trial_that_nobody_vouches_for_ends() {
    let directory = tempfile::tempdir().expect("temporary directory");
    write_facts(&Root::new(directory.path()), &BootFacts { counted: true, ..BootFacts::default() });
    let mut init = Command::new(env!("CARGO_BIN_EXE_init")).arg("supervise").arg(directory.path()).spawn().expect("init starts");
    let deadline = Instant::now() + Duration::from_secs(300) + PATIENCE;
    let status = loop {
        match init.try_wait().expect("wait") {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let _ = init.kill();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn proof_changes_nothing_without_a_trial() {
    let init = Init::start();
    for proof in [Proof::Pending { within: Duration::ZERO }, Proof::Good] {
        assert_eq!(init.ask(Request::ProveBoot(proof)), Response::Done);
    }
    assert_eq!(init.list(), []);
}

#[test]
fn services_outlive_their_agent_and_clients_that_misbehave() {
    let mut init = Init::start();
    init.put(&shell("a", "exec sleep 1000"));
    let before = init.until_state("a", ServiceState::Ready);
    let socket = init.root().init_socket();
    // One that sends nonsense, one that stops in the middle of a frame, one that never reads its events.
    connect(&socket).write_all(&[0xff; 64]).expect("send");
    let mut half = connect(&socket);
    half.write_all(&[100, 0, 0, 0, b'{']).expect("send");
    let mut deaf = connect(&socket);
    protocol::write_frame(&mut deaf, &Request::Subscribe).expect("send");
    for round in 0..50 {
        init.put(&shell(&format!("s{round}"), "exit 0"));
        init.ask(Request::RemoveService(id(&format!("s{round}"))));
    }
    let found = init.list().into_iter().find(|status| status.id == before.id).expect("still there");
    assert_eq!(found, before);
}

#[test]
fn output_of_a_flood_is_bounded() {
    let mut init = Init::start();
    init.put(&shell("a", "yes 0123456789012345678901234567890123456789 | head -c 6000000; echo end; exec sleep 1000"));
    init.until_state("a", ServiceState::Ready);
    wait_for("the end of the flood", || init.log("a").last().filter(|line| line.ends_with("end")).map(|_| ()));
    let logs = fs::read_dir(init.root().early_log_directory()).expect("there");
    let bytes: u64 = logs.map(|entry| entry.expect("entry").metadata().expect("metadata").len()).sum();
    assert!(bytes <= 2 * 512 * 1024, "{bytes} bytes");
}
