//! The record of a local cluster: what it is made of, and how its processes are found again.

use std::path::PathBuf;

use machine::config::{Duration, Role};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use testbed::{ProcessId, RunningMachine};

use super::super::layout::{IpFamily, Place};
use crate::failure::Failure;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub name: String,
    pub image: PathBuf,
    /// Of each machine.
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub isolated: bool,
    #[serde(default)]
    pub ip_family: IpFamily,
    /// The accelerator that the user asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// After this time a machine ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Duration>,
    /// Port of the host that leads to whichever API server answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_port: Option<u16>,
    /// The segment's switch, as it was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<ProcessId>,
    pub machines: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    #[serde(flatten)]
    pub place: Place,
    /// As it was started last. None while it has not been started.
    pub machine: Option<RunningMachine>,
}

impl Member {
    pub fn new(place: Place) -> Member {
        Member { place, machine: None }
    }

    pub fn name(&self) -> String {
        self.place.name()
    }

    pub fn is_running(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.process.is_alive())
    }

    /// `127.0.0.1:<port>` of a port of the guest.
    pub fn forwarded(&self, guest: u16) -> Option<String> {
        self.port(guest).map(|port| format!("127.0.0.1:{port}"))
    }

    /// The host's port that leads to the guest's.
    pub fn port(&self, guest: u16) -> Option<u16> {
        let forwards = self.machine.as_ref().map(|machine| machine.forwards.as_slice()).unwrap_or_default();
        forwards.iter().find(|forward| forward.guest == guest).map(|forward| forward.host)
    }
}

impl Record {
    /// Also of a release that knew one machine only.
    pub fn read(text: &str) -> serde_json::Result<Record> {
        let mut value: Value = serde_json::from_str(text)?;
        if let Some(fields) = value.as_object_mut()
            && let Some(machine) = fields.remove("machine")
        {
            let Place { role, number } = Place::FIRST;
            fields.insert("machines".to_owned(), json!([{ "role": role, "number": number, "machine": machine }]));
        }
        serde_json::from_value(value)
    }

    pub fn member(&self, name: &str) -> Result<&Member, Failure> {
        let unknown = || {
            let names = self.machines.iter().map(Member::name).collect::<Vec<_>>().join(", ");
            Failure::usage("machine", format!("{name:?}; the cluster {} has {names}", self.name))
        };
        self.machines.iter().find(|member| member.name() == name).ok_or_else(unknown)
    }

    /// Keeps what became of a machine.
    pub fn put(&mut self, member: Member) {
        self.machines.retain(|other| other.place != member.place);
        self.machines.push(member);
        self.machines.sort_by_key(|member| (member.place.role == Role::Worker, member.place.number));
    }

    /// Where kubectl finds the cluster: `127.0.0.1:<port>`.
    pub fn kubernetes_api(&self) -> Option<String> {
        self.kubernetes_port.map(|port| format!("127.0.0.1:{port}"))
    }

    pub fn control_planes(&self) -> impl Iterator<Item = &Member> {
        self.machines.iter().filter(|member| member.place.role == Role::ControlPlane)
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;

    use testbed::{Accelerator, Forward};

    use super::*;

    /// A machine that was started once.
    pub fn running(cluster: &Path, place: Place) -> RunningMachine {
        let process = ProcessId { pid: 1, start_ticks: 0, host_boot_id: "gone".to_owned() };
        let forwards = [50000, 6443].map(|port| Forward { host: port, guest: port }).to_vec();
        RunningMachine { name: place.name(), directory: cluster.join(place.name()), process, accelerator: Accelerator::Tcg, forwards }
    }

    pub fn record() -> Record {
        Record {
            name: "demo".to_owned(),
            image: "/disk.qcow2".into(),
            cpus: 2,
            memory_bytes: 1,
            disk_bytes: 2,
            isolated: true,
            ip_family: IpFamily::Ipv4,
            accelerator: None,
            limit: None,
            kubernetes_port: Some(6443),
            switch: None,
            machines: vec![Member::new(Place::FIRST)],
        }
    }

    #[test]
    fn a_record_of_one_machine_is_read() {
        let process = json!({ "pid": 1, "startTicks": 2, "hostBootId": "b" });
        let machine = json!({ "name": "demo", "directory": "/clusters/demo", "process": process, "accelerator": "tcg", "forwards": [{ "host": 7, "guest": 50000 }] });
        let old = json!({ "name": "demo", "image": "/disk.qcow2", "cpus": 2, "memoryBytes": 1, "diskBytes": 2, "isolated": true, "machine": machine });
        let read = Record::read(&old.to_string()).expect("an old record");
        assert_eq!(read.member("cp-1").expect("its machine").forwarded(50000).as_deref(), Some("127.0.0.1:7"));
        let fresh = Record { machines: vec![Member::new(Place::FIRST)], ..read.clone() };
        let mut old = old;
        old["machine"] = Value::Null;
        assert_eq!(Record::read(&old.to_string()).expect("never started"), fresh);
    }

    #[test]
    fn machines_are_known_by_name() {
        let mut record = record();
        let worker = Place { role: Role::Worker, number: 1 };
        record.put(Member::new(worker));
        record.put(Member::new(Place { number: 2, ..Place::FIRST }));
        record.put(Member::new(Place::FIRST));
        assert_eq!(record.machines.iter().map(Member::name).collect::<Vec<_>>(), ["cp-1", "cp-2", "worker-1"]);
        assert_eq!(record.control_planes().count(), 2);
        let error = record.member("cp-9").expect_err("unknown").to_string();
        assert_eq!(error, "machine: \"cp-9\"; the cluster demo has cp-1, cp-2, worker-1");
    }
}
