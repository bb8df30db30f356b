//! The configs of a local cluster: one for each kind of machine, and from these each machine's own.

use std::net::SocketAddr;
use std::time::SystemTime;

use controlplane::client_config::{ClientConfig, Context};
use controlplane::generate::Options;
use controlplane::secrets::Secrets;
use machine::config::{Role, yaml};
use serde_json::{Value, json};
use testbed::{Accelerator, NAME_SERVER};

use super::layout::Place;
use super::state::{CLIENT_CONFIG, CONFIG, Folder, Member, Record};
use crate::failure::Failure;
use crate::verbs::generate::{Patches, names, texts, write_client, write_secrets};
use crate::{files, patch};

/// Makes the cluster's secrets and configs. Its first control plane runs already: under what decides what etcd is told.
pub fn make(folder: &Folder, record: &Record, allow_scheduling_on_control_planes: bool, user: &Patches) -> Result<(), Failure> {
    let now = SystemTime::now();
    let secrets = Secrets::generate(now).map_err(|error| Failure::of("secrets", &error))?;
    let options = Options { machine_endpoints: control_planes(record), allow_scheduling_on_control_planes, ..Options::new(now) };
    let endpoint = record.kubernetes_api().unwrap_or_default();
    let mut patches = user.clone();
    patches.all.insert(0, ours(record).to_string());
    let mut texts = texts(&record.name, &format!("https://{endpoint}"), &secrets, &options, &patches)?;
    write_secrets(&folder.path(names::SECRETS), &secrets)?;
    if let Some(context) = texts.client.contexts.get_mut(&record.name) {
        context.endpoints = endpoints(record);
    }
    texts.write(&folder.directory)
}

/// What all machines have in common.
fn ours(record: &Record) -> Value {
    // CoreDNS does not start without one.
    let network = json!({ "nameservers": [NAME_SERVER] });
    let kubelet = json!({ "nodeIP": { "subnets": [record.ip_family.segment()] } });
    let mut ours = json!({
        "machine": { "network": network, "kubelet": kubelet },
        "cluster": { "network": record.ip_family.cluster_network() },
    });
    let emulated = |member: &Member| member.machine.as_ref().is_some_and(|machine| machine.accelerator != Accelerator::Kvm);
    if record.machines.iter().any(emulated) {
        // Emulated CPUs stall for longer than etcd's defaults (100 ms, 1 s) bear.
        ours["cluster"]["etcd"] = json!({ "extraArgs": { "heartbeat-interval": "500", "election-timeout": "5000" } });
    }
    ours
}

/// Their machine APIs, from each other.
fn control_planes(record: &Record) -> Vec<String> {
    let agent = |member: &Member| SocketAddr::new(member.place.address(record.ip_family), api::PORT).to_string();
    record.control_planes().map(agent).collect()
}

/// The machine APIs of control planes, from here.
fn endpoints(record: &Record) -> Vec<String> {
    record.control_planes().filter_map(|member| member.forwarded(api::PORT)).collect()
}

/// The config of one machine, written to its folder. The one that founds the cluster has the authorities' keys in it.
pub fn of(folder: &Folder, record: &Record, member: &Member, founds: bool) -> Result<String, Failure> {
    let name = match (member.place.role, founds) {
        (Role::ControlPlane, true) => names::CONTROL_PLANE,
        (Role::ControlPlane, false) => names::CONTROL_PLANE_JOIN,
        (Role::Worker, _) => names::WORKER,
    };
    let path = folder.path(name);
    let common = yaml::read_one(&files::read_text(&path)?, &path.display().to_string())?.value();
    let text = yaml::print(&own(common, record, member.place));
    machine::config::load(&text, &member.name())?;
    files::write(&folder.of(member).join(CONFIG), &text, files::SECRET)?;
    Ok(text)
}

/// With what is the machine's own, where the user has said nothing else.
fn own(mut document: Value, record: &Record, place: Place) -> Value {
    let user = document["machine"].clone();
    patch::merge(&mut document, &place.fields(record.ip_family));
    let said = json!({ "machine": { "hostname": user["hostname"], "network": { "interfaces": user["network"]["interfaces"] } } });
    patch::merge(&mut document, &without_nothing(said));
    patch::merge(&mut document, &json!({ "cluster": { "controlPlanes": control_planes(record) } }));
    document
}

/// Without fields that hold nothing.
fn without_nothing(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let fields = fields.into_iter().map(|(name, field)| (name, without_nothing(field)));
    fields.filter(|(_, field)| !field.is_null() && field.as_array().is_none_or(|list| !list.is_empty())).collect()
}

/// Has the client config name all control planes that there are now.
pub fn name_endpoints(folder: &Folder, record: &Record) -> Result<(), Failure> {
    let mut client = client(folder)?;
    if let Some(context) = client.contexts.get_mut(&record.name) {
        context.endpoints = endpoints(record);
    }
    write_client(&folder.path(CLIENT_CONFIG), &client)
}

/// The administrator's.
pub fn context(folder: &Folder) -> Result<Context, Failure> {
    client(folder)?.context(None).cloned().map_err(|error| Failure::of(folder.path(CLIENT_CONFIG).display(), &error))
}

fn client(folder: &Folder) -> Result<ClientConfig, Failure> {
    let path = folder.path(CLIENT_CONFIG);
    ClientConfig::from_yaml(&files::read_text(&path)?).map_err(|error| Failure::of(path.display(), &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::layout::{self, IpFamily};
    use crate::cluster::state::tests::record;

    fn folder() -> (tempfile::TempDir, Folder) {
        let clusters = tempfile::tempdir().expect("temporary directory");
        let folder = Folder::new(clusters.path(), "demo").expect("a folder");
        (clusters, folder)
    }

    #[test]
    fn each_machine_gets_its_own_of_its_kind() {
        let (_clusters, folder) = folder();
        let mut record = record();
        record.machines = layout::places(2, 1).into_iter().map(Member::new).collect();
        for member in &mut record.machines {
            member.machine = Some(crate::cluster::state::tests::running(&folder.directory, member.place));
        }
        make(&folder, &record, true, &Patches { worker: vec!["machine: {hostname: mine}".to_owned()], ..Patches::default() })
            .expect("made");
        let load = |name: &str, founds| {
            let text = of(&folder, &record, record.member(name).expect("a member"), founds).expect("a config");
            machine::config::load(&text, name).unwrap_or_else(|report| panic!("{report}"))
        };
        let (first, second, worker) = (load("cp-1", true), load("cp-2", false), load("worker-1", false));
        assert!(first.cluster.certificate_authorities.kubernetes.key.is_some());
        assert!(second.cluster.certificate_authorities.kubernetes.key.is_none());
        assert_eq!((second.machine.role, worker.machine.role), (Role::ControlPlane, Role::Worker));
        assert_eq!(second.machine.hostname.as_deref(), Some("cp-2"));
        assert_eq!(worker.machine.hostname.as_deref(), Some("mine"), "the user's word counts");
        assert_eq!(second.machine.network.interfaces[1].addresses[0].to_string(), "10.5.0.11/24");
        assert_eq!(worker.cluster.control_planes, ["10.5.0.10:50000", "10.5.0.11:50000"]);
        assert_eq!(worker.cluster.endpoint, "https://127.0.0.1:6443");
        assert_eq!(context(&folder).expect("a context").endpoints, ["127.0.0.1:50000", "127.0.0.1:50000"]);
    }
    #[test]
    fn with_ipv6_no_machine_needs_ipv4() {
        let (_clusters, folder) = folder();
        let mut record = record();
        record.ip_family = IpFamily::Ipv6;
        record.machines = layout::places(1, 1).into_iter().map(Member::new).collect();
        for member in &mut record.machines {
            member.machine = Some(crate::cluster::state::tests::running(&folder.directory, member.place));
        }
        make(&folder, &record, true, &Patches::default()).expect("made");
        let text = of(&folder, &record, record.member("worker-1").expect("a member"), false).expect("a config");
        let worker = machine::config::load(&text, "worker-1").unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(worker.machine.network.interfaces[1].addresses[0].to_string(), "fd05::100/64");
        assert_eq!(worker.cluster.control_planes, ["[fd05::10]:50000"]);
        let network = &worker.cluster.network;
        let all = network.pod_cidrs.iter().chain(&network.service_cidrs).chain(&worker.machine.kubelet.node_ip.subnets);
        assert_eq!(all.map(ToString::to_string).collect::<Vec<_>>(), ["fd05:0:1::/56", "fd05:0:2::/112", "fd05::/64"]);
    }
}
