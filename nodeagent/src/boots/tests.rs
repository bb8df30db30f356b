//! Boots of one machine, each of which finds what the one before left.

use std::fs;

use machine::disk::{Slot, Volume};
use machine::protocol::{BootFacts, PowerAction, VolumeState, VolumeStatus};
use machine::record::LastShutdown;
use machine::service::ServiceId;
use nix::sys::stat::Mode;

use super::*;
use crate::init_client::InitClient;
use crate::resources::services::volume_name;

struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(machine.root().path("/dev")).unwrap();
        fs::write(machine.root().path("/dev/console"), "").unwrap();
        machine
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path())
    }

    /// An agent that starts in a boot of this name.
    async fn agent(&self, boot_id: &str, state: VolumeState) -> (Node, Arc<Boots>) {
        let node = Node::new(self.root(), InitClient::new(self.root().init_socket()));
        let facts = BootFacts { boot_id: boot_id.to_owned(), slot: Some(Slot::A), disk: "/dev/vda".to_owned(), ..BootFacts::default() };
        node.store.put(boot_id, &facts);
        let state = VolumeStatus { volume: Volume::State, state, size_bytes: 1, device: String::new() };
        node.store.put(&volume_name(Volume::State), &state);
        let boots = Arc::new(Boots::new(node.clone()));
        boots.begin().await;
        (node, boots)
    }

    async fn boot(&self, boot_id: &str) -> Node {
        self.agent(boot_id, VolumeState::Open).await.0
    }

    fn shut_down(&self, boot_id: &str) {
        let reason = "reboot asked by os:admin/alice".to_owned();
        let shutdown = LastShutdown {
            version: LastShutdown::VERSION,
            boot_id: boot_id.to_owned(),
            action: PowerAction::Reboot,
            reason,
            at: 1_790_000_000,
        };
        crate::files::write(&self.root().last_shutdown(), &serde_json::to_vec(&shutdown).unwrap(), 0o600).unwrap();
    }

    fn records(&self) -> Vec<Record> {
        Records::new(self.root().boot_records()).list().unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn told(node: &Node) -> Vec<(String, String, String)> {
    node.store.all::<Boot>().into_iter().map(|(name, boot)| (name, boot.ended, boot.reason)).collect()
}

fn row(name: &str, ended: &str, reason: &str) -> (String, String, String) {
    (name.to_owned(), ended.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn each_boot_completes_the_one_before() {
    let machine = Machine::new();
    assert_eq!(told(&machine.boot("one").await), [row("1", "running", "")]);
    // An agent that starts anew goes on with the record of its boot.
    assert_eq!(told(&machine.boot("one").await), [row("1", "running", "")]);

    machine.shut_down("one");
    let node = machine.boot("two").await;
    assert_eq!(told(&node), [row("1", "ordered", "reboot: reboot asked by os:admin/alice"), row("2", "running", "")]);
    assert_eq!(machine.records()[0].ended_at, 1_790_000_000);
    let facts = node.store.list(Boot::KIND).pop().unwrap().value;
    assert_eq!((facts["bootId"].as_str(), facts["slot"].as_str(), facts["disk"].as_str()), (Some("two"), Some("a"), Some("/dev/vda")));

    machine.write("/sys/fs/pstore/dmesg-efi_pstore-1", "Panic#1 Part1\n<0>[   12.500000] Kernel panic - not syncing: test\n");
    let node = machine.boot("three").await;
    assert_eq!(told(&node)[1], row("2", "crashed", "Kernel panic - not syncing: test"));
    assert!(machine.records()[1].crash_log.contains("12.500000"));
    assert_eq!(fs::read_dir(machine.root().path("/sys/fs/pstore")).unwrap().count(), 0);
    let console = fs::read_to_string(machine.root().path("/dev/console")).unwrap();
    assert_eq!(console, "corten: the boot before did not end in order: Kernel panic - not syncing: test\n");

    machine.write("/sys/class/watchdog/watchdog0/bootstatus", "32\n");
    assert_eq!(told(&machine.boot("four").await)[2].1, "watchdog");
    machine.write("/sys/class/watchdog/watchdog0/bootstatus", "0\n");
    assert_eq!(told(&machine.boot("five").await)[3].1, "unknown");
}

#[tokio::test]
async fn a_crash_before_the_agent_came_up_is_a_boot_of_its_own() {
    let machine = Machine::new();
    machine.boot("one").await;
    machine.shut_down("one");
    machine.write("/sys/fs/pstore/dmesg-efi_pstore-1", "Panic#1 Part1\nKernel panic - not syncing: no init\n");
    let told = told(&machine.boot("three").await);
    assert_eq!((told[0].1.as_str(), &told[1]), ("ordered", &row("2", "crashed", "Kernel panic - not syncing: no init")));
    assert_eq!(told[2], row("3", "running", ""));
}

#[tokio::test]
async fn without_state_the_running_boot_is_shown_all_the_same() {
    let machine = Machine::new();
    machine.write("/sys/fs/pstore/dmesg-efi_pstore-1", "Kernel panic - not syncing: test\n");
    let (node, boots) = machine.agent("one", VolumeState::Missing).await;
    boots.end().await;
    assert_eq!(told(&node), [row("0", "running", "")]);
    assert!(!machine.root().boot_records().exists());
    assert!(machine.root().path("/sys/fs/pstore/dmesg-efi_pstore-1").exists(), "what is recorded nowhere is kept");
}

#[tokio::test(start_paused = true)]
async fn services_and_the_kernels_log_are_kept() {
    let machine = Machine::new();
    let kmsg = machine.root().path("/dev/kmsg");
    nix::unistd::mkfifo(&kmsg, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut kernel = fs::OpenOptions::new().read(true).write(true).open(&kmsg).unwrap();
    let (node, boots) = machine.agent("one", VolumeState::Open).await;
    let following = tokio::spawn(boots.clone().follow());

    let service = |state, restarts| ServiceStatus {
        id: ServiceId::new("kubelet").unwrap(),
        state,
        pid: None,
        restarts,
        last_exit: (restarts > 0).then_some(Exit::Signal(9)),
        since_boot: Duration::ZERO,
    };
    let until = async |check: &dyn Fn(&Record) -> bool| {
        for _ in 0..100 {
            if machine.records().iter().any(check) {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("{:#?}", machine.records());
    };
    node.store.put("kubelet", &service(ServiceState::Ready, 0));
    until(&|record| record.services.iter().any(|seen| seen.state == "ready")).await;
    assert_eq!(machine.records()[0].kernel_log_tail, "", "nothing failed");

    std::io::Write::write_all(&mut kernel, b"6,1,1000000,-;Out of memory: Killed process 100\n").unwrap();
    node.store.put("kubelet", &service(ServiceState::Ready, 1));
    until(&|record| record.services.iter().any(|seen| seen.last_exit == "signal 9")).await;
    assert_eq!(machine.records()[0].kernel_log_tail, "[    1.000000] Out of memory: Killed process 100\n");

    following.abort();
    std::io::Write::write_all(&mut kernel, b"6,2,2000000,-;at the end\n").unwrap();
    boots.end().await;
    assert_eq!(machine.records()[0].kernel_log_tail, "[    2.000000] at the end\n");
    assert_eq!(machine.records().len(), 1);
}
