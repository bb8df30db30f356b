use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use machine::Root;
use machine::protocol::BootFacts;

use super::*;
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;

fn seen(platform: &str, kubernetes: bool, in_place: bool) -> Seen {
    Seen { platform: platform.to_owned(), kubernetes, in_place }
}

#[test]
fn on_clouds_with_pods() {
    for (platform, kubernetes, guarded) in [
        ("aws", true, true),
        ("azure", true, true),
        ("gcp", true, true),
        ("openstack", true, true),
        ("aws", false, false),
        ("metal", true, false),
        ("qemu", true, false),
        ("nocloud", true, false),
        ("", true, false),
    ] {
        assert_eq!(matches!(plan::plan(&seen(platform, kubernetes, false)), Plan::Act(_)), guarded, "{platform} {kubernetes}");
        assert_eq!(plan::plan(&seen(platform, kubernetes, true)), Plan::Settled, "{platform} {kubernetes}");
    }
    crate::golden::check("src/controllers/metadata_guard/golden/rules.nft", &plan::wanted("aws", true).unwrap());
}

/// Whether a connection from there is taken.
fn connects(from: &Namespace, address: &str) -> bool {
    let script = format!("import socket; socket.create_connection({address}, timeout=5).close()");
    from.command("python3").args(["-c", &script]).stderr(Stdio::null()).status().unwrap().success()
}

/// Takes connections until it is dropped.
struct Listener(Child);

impl Listener {
    fn new(at: &Namespace, address: &str) -> Listener {
        let script = format!(
            "import socket\ns = socket.create_server({address})\nprint('ready', flush=True)\nwhile True:\n    s.accept()[0].close()"
        );
        let mut child = at.command("python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert_eq!(&line, b"ready\n");
        Listener(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pod, its machine, and the host under the machine that answers for the metadata service: the pod's packets are forwarded, the machine's
/// are its own. Needs root, nft and iproute2, as all namespaces do.
#[tokio::test]
async fn pods_are_kept_from_it_and_the_machine_is_not() {
    let (pod, machine, cloud) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (peer, name, address, gateway) in
        [(&pod, "pod0", "10.244.1.1/24", "10.244.1.2/24"), (&cloud, "eth0", "192.0.2.1/24", "192.0.2.2/24")]
    {
        machine.run(&format!("ip link add {name} type veth peer name uplink netns {}", peer.pid()));
        machine.run(&format!("ip address add {address} dev {name}"));
        machine.run(&format!("ip link set {name} up"));
        peer.run(&format!("ip address add {gateway} dev uplink"));
        peer.run("ip link set uplink up");
        peer.run("ip link set lo up");
        peer.run(&format!("ip route add default via {}", address.split('/').next().unwrap()));
    }
    cloud.run("ip address add 169.254.169.254/32 dev lo");
    machine.run("ip route add 169.254.169.254 via 192.0.2.2");
    machine.run("sysctl -q -w net.ipv4.ip_forward=1");
    let (_metadata, _dns, _other) = (
        Listener::new(&cloud, "('169.254.169.254', 80)"),
        Listener::new(&cloud, "('169.254.169.254', 53)"),
        Listener::new(&cloud, "('192.0.2.2', 80)"),
    );
    assert!(connects(&pod, "('169.254.169.254', 80)"), "without the table the test's own network lets it through");

    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        root.image_facts(),
        r#"{ "version": "0.1.0", "profile": "worker", "architecture": "x86_64", "kubernetes": "v1.37.1", "builtAt": 0 }"#,
    );
    machine.install(&root.path("/usr/sbin/nft"));
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    node.store.put("boot", &BootFacts { platform: "aws".to_owned(), ..BootFacts::default() });

    let mut guard = MetadataGuard::default();
    let settle = async |guard: &mut MetadataGuard| {
        let seen = guard.observe(&node).await.unwrap();
        let Plan::Act(actions) = guard.plan(&seen) else { return false };
        for rules in actions {
            guard.apply(rules, &node).await.unwrap();
        }
        let seen = guard.observe(&node).await.unwrap();
        assert_eq!(guard.plan(&seen), Plan::Settled);
        true
    };
    assert!(settle(&mut guard).await);
    let begun = Instant::now();
    assert!(!connects(&pod, "('169.254.169.254', 80)"));
    assert!(begun.elapsed() < Duration::from_secs(5), "it is told at once: it need not wait");
    assert!(connects(&pod, "('169.254.169.254', 53)"), "GCP's name server");
    assert!(connects(&pod, "('192.0.2.2', 80)"), "nothing else is in its way");
    assert!(connects(&machine, "('169.254.169.254', 80)"), "the machine itself, and pods with hostNetwork");

    // An agent that starts again, and somebody who takes the table away.
    assert!(settle(&mut MetadataGuard::default()).await);
    machine.run("nft delete table inet corten-metadata");
    assert!(settle(&mut guard).await);
    assert!(!connects(&pod, "('169.254.169.254', 80)"));
}
