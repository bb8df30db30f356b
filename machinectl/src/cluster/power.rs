//! Turns machines of a local cluster on.

use std::path::Path;

use controlplane::ports::API_SERVER_PORT;
use machine::config::Role;
use testbed::{Boot, Disk, DiskFormat, Firmware, Lifetime, Machine, MachineSpec, host_boot_id};

use super::accelerators::Accelerators;
use super::state::{Folder, Member, Record};
use super::switch;
use crate::failure::Failure;
use crate::places::Places;

/// Turns a machine on that is off, plugged into the cluster's segment, and keeps that in the record.
pub fn on(places: &Places, folder: &Folder, record: &mut Record, name: &str) -> Result<Machine, Failure> {
    let mut member = record.member(name)?.clone();
    switch::ensure(folder, record)?;
    folder.save(record)?;
    let accelerators = accelerators(places, record)?;
    let lifetime = record.limit.map_or(Lifetime::Detached, |limit| Lifetime::DetachedFor(limit.0));
    let machine = Machine::start(&spec(record, &member)?, &folder.of(&member), &accelerators.candidates, lifetime)?;
    accelerators.learn(&machine);
    member.machine = Some(machine.record().clone());
    record.put(member);
    // Now it is known by which port its API server is reached.
    switch::ensure(folder, record)?;
    folder.save(record)?;
    Ok(machine)
}

/// What another machine of the cluster was started with is not tried anew.
fn accelerators(places: &Places, record: &Record) -> Result<Accelerators, Failure> {
    let mut accelerators = Accelerators::find(record.accelerator.as_deref(), &places.cache, &host_boot_id())?;
    let proven = record.machines.iter().filter(|member| member.is_running()).find_map(|member| member.machine.as_ref());
    if let Some(proven) = proven {
        accelerators.candidates = vec![proven.accelerator];
    }
    Ok(accelerators)
}

fn spec(record: &Record, member: &Member) -> Result<MachineSpec, Failure> {
    let format = |image: &Path| if image.extension().is_some_and(|end| end == "qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
    let disk = Disk::Overlay { base: record.image.clone(), format: format(&record.image), size_bytes: Some(record.disk_bytes) };
    let mut spec = MachineSpec::new(format!("{}-{}", record.name, member.name()), Boot::Firmware(Firmware::find()?))
        .cpus(record.cpus)
        .memory_mib(record.memory_bytes >> 20)
        .disk(disk)
        .isolated(record.isolated)
        .segment(member.place.hardware_address());
    match (&member.machine, member.place.role) {
        // Where it was found before, it is found again.
        (Some(before), _) => spec.forwards.clone_from(&before.forwards),
        (None, Role::ControlPlane) => spec = spec.forward(api::PORT)?.forward(API_SERVER_PORT)?,
        (None, Role::Worker) => spec = spec.forward(api::PORT)?,
    }
    Ok(spec)
}
