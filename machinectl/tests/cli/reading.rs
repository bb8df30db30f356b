//! Commands that show something, in every format.

use crate::fake::Fake;

#[test]
fn version_in_every_format() {
    let fake = Fake::member();
    let own = env!("CARGO_PKG_VERSION");
    let node = fake.address.to_string();
    let table = fake.run(&["version"]).printed();
    assert!(table.starts_with(&format!("machinectl {own}\n")) && table.contains("KUBERNETES") && !table.contains("KERNEL"), "{table}");
    assert!(table.contains(&format!("{node}   cp-1       running   0.1.0    v1.37.1")), "{table}");
    assert!(fake.run(&["version", "-o", "wide"]).printed().contains("6.12.1"));
    let json = fake.run(&["version", "-o", "json"]).json();
    assert_eq!((json[0]["node"].as_str(), json[0]["kubernetes"].as_str()), (Some(node.as_str()), Some("v1.37.1")));
    assert!(fake.run(&["version", "-o", "yaml"]).printed().contains("kubernetes: v1.37.1\n"));
    assert_eq!(fake.run(&["version", "--client"]).printed(), format!("machinectl {own}\n"));
}

#[test]
fn resources_with_the_columns_that_the_machine_names() {
    let fake = Fake::member();
    let expected = "NAME      STATE     AFTER                 RESTARTS\n\
                    etcd      ready     -                     0\n\
                    kubelet   waiting   containerd, network   2\n";
    for arguments in [&["get", "services"][..], &["get", "service"], &["services"]] {
        assert_eq!(fake.run(arguments).printed(), expected);
    }
    assert!(fake.run(&["get", "services", "-o", "wide"]).printed().contains("REVISION"));
    let all = fake.run(&["get", "services", "-o", "json"]).json();
    assert_eq!((all[0]["status"]["pid"].as_i64(), all[1]["status"]["after"][0].as_str()), (Some(41), Some("containerd")));
    let one = fake.run(&["get", "services", "etcd", "-o", "json"]).json();
    assert_eq!((one["name"].as_str(), one["revision"].as_i64()), (Some("etcd"), Some(7)));
    assert_eq!(
        fake.run(&["get"]).printed(),
        "KIND        DESCRIPTION\naddresses   All addresses.\nservices    All services.\nupgrades    All upgrades.\n"
    );
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let fake = Fake::member();
    let node = fake.address;
    let error = fake.run(&["get", "servcies"]).complained(1);
    assert_eq!(error, format!("error: {node}: there is no kind \"servcies\"; did you mean services?\n"));
    let error = fake.run(&["get", "services", "nginx"]).complained(1);
    assert_eq!(error, format!("error: {node}: service nginx is not there; see `machinectl get services`\n"));
    let error = fake.run(&["files", "cat", "/state/pki/key"]).complained(1);
    assert_eq!(error, format!("error: {node}: /state/pki/key holds keys; nobody may read it\n"));
    assert!(fake.run(&["config", "show", "--generation", "99"]).complained(1).ends_with("see `machinectl config list`\n"));
}

#[test]
fn a_watch_shows_a_table_and_then_each_change() {
    let fake = Fake::member();
    let ran = fake.run(&["get", "services", "-w"]);
    let expected = "CHANGE   NAME      STATE     AFTER                 RESTARTS\n\
                    put      etcd      ready     -                     0\n\
                    put      kubelet   waiting   containerd, network   2\n\
                    put      kubelet   ready   -       2\n\
                    removed   etcd   -       -       -\n";
    let words = |text: &str| text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(words(&ran.out), words(expected));
    assert!(ran.complained(1).contains("the machine ended the watch"));
    let lines = fake.run(&["get", "services", "-w", "-o", "json"]).out;
    let last: serde_json::Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!((last["change"].as_str(), last["name"].as_str()), (Some("removed"), Some("etcd")));
}

#[test]
fn logs_come_byte_for_byte() {
    let fake = Fake::member();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_machinectl"))
        .env("HOME", fake.home())
        .env_remove("CORTENCONFIG")
        .args(["logs", "kubelet", "--tail", "3"])
        .output()
        .expect("machinectl");
    assert_eq!(out.stdout, b"one\ntwo\nthree \xff\n");
    assert_eq!(fake.asked.lines(), ["StreamRequest { follow: false, tail: Some(3), source: Some(Service(\"kubelet\")) }"]);
    assert!(fake.run(&["dmesg"]).printed().contains("Linux version"));
    let events = fake.run(&["events"]).printed();
    assert!(events.starts_with("2026-09-21T14:13:20Z  service/kubelet") && events.ends_with("pid 7\n"), "{events}");
    assert_eq!(fake.run(&["events", "-o", "json"]).json()["reason"], "Started");
    assert_eq!(fake.run(&["files", "cat", "/etc/hosts"]).printed(), "127.0.0.1 localhost\n");
    assert!(fake.run(&["files", "ls", "/etc"]).printed().contains("lrwxrwxrwx   0       12     2026-09-21T14:13:20Z   localtime -> /usr"));
    assert!(fake.run(&["image", "list"]).printed().contains("hello:1   sha256:ab"));
}

#[test]
fn the_history_of_configs_says_who_when_and_how_much() {
    let fake = Fake::member();
    let history = fake.run(&["config", "history"]).printed();
    let row = format!("{}   3            yes       2026-09-21T14:13:20Z   os:admin/alice   +3 -1     -\n", fake.address);
    assert!(history.starts_with("NODE") && history.ends_with(&row), "{history}");
    assert_eq!(fake.run(&["config", "list"]).printed(), history);
    let values = fake.run(&["config", "history", "-o", "json"]).json();
    assert_eq!((values[1]["linesAdded"].as_i64(), values[1]["current"].as_bool()), (Some(3), Some(true)));
}

#[test]
fn generations_are_compared() {
    let fake = Fake::member();
    assert_eq!(fake.run(&["config", "diff"]).printed(), "--- 2\n+++ 3\n");
    assert_eq!(fake.run(&["config", "diff", "1"]).printed(), "--- 1\n+++ 3\n");
    assert_eq!(fake.run(&["config", "diff", "1", "2"]).printed(), "--- 1\n+++ 2\n");
    let ran = fake.run(&["config", "diff", "2", "2"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "generations 2 and 2 do not differ\n"));
}

#[test]
fn health_is_an_exit_code() {
    let fake = Fake::member();
    let ran = fake.run(&["health"]);
    assert!(ran.out.contains("kubelet   fails    waits for etcd"), "{}", ran.out);
    assert!(ran.complained(1).contains("not healthy; wait for it with --wait 10m"));
    assert!(fake.run(&["health", "--wait", "5s"]).complained(124).contains("not healthy within 5s"));
    let healthy = fake.run(&["health", "--wait", "1h"]).printed();
    assert!(healthy.contains("kubelet   passes"), "{healthy}");
}

#[test]
fn packets_go_to_a_file_or_to_a_pipe() {
    let fake = Fake::member();
    let node = fake.address.to_string();
    let ran =
        fake.run(&["pcap", "--link", "eth0", "--protocol", "udp", "--host", "192.0.2.0/24", "--port", "53", "-c", "2", "-w", "dns.pcap"]);
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("{node}: 2 packets: as many as were asked for\n")));
    assert_eq!(std::fs::read_to_string(fake.home().join("dns.pcap")).unwrap(), "head packets");
    assert_eq!(fake.run(&["pcap", "--for", "5m", "--size", "1MiB", "--snap", "96"]).printed(), "head packets");
    let asked = fake.asked.lines();
    assert!(asked.contains(&"packets eth0 PACKET_PROTOCOL_UDP 192.0.2.0/24 53; 2 104857600 Some(60) 0".to_owned()), "{asked:?}");
    assert!(asked.contains(&"packets  PACKET_PROTOCOL_UNSPECIFIED  0; 0 1048576 Some(300) 96".to_owned()), "{asked:?}");
    assert_eq!(fake.run(&["pcap", "--port", "0"]).code, 2);
}
