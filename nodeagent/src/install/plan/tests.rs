//! Which disk is chosen, case by case.

use std::fmt::Write as _;

use machine::config::ByteSize;

use super::*;

const WORKER: [Partition; 4] = [Partition::Esp, Partition::RootA, Partition::State, Partition::Ephemeral];

fn disk(path: &str, kind: DiskType, gibibytes: u64) -> Disk {
    Disk {
        path: path.to_owned(),
        serial: String::new(),
        wwn: String::new(),
        model: String::new(),
        size_bytes: gibibytes * GIB,
        sector_bytes: 512,
        kind,
        read_only: false,
        removable: false,
        holds: String::new(),
        corten: false,
        used_as: String::new(),
    }
}

fn machine() -> Vec<Disk> {
    let named = |serial: &str, wwn: &str, disk: Disk| Disk { serial: serial.to_owned(), wwn: wwn.to_owned(), ..disk };
    vec![
        named("N1", "eui.0025388b710116a1", disk("/dev/nvme0n1", DiskType::Nvme, 100)),
        Disk { removable: true, used_as: "the installation medium".to_owned(), ..disk("/dev/sda", DiskType::Ssd, 16) },
        Disk { removable: true, ..disk("/dev/sdb", DiskType::Ssd, 64) },
        Disk { holds: "partitions EFI, Windows".to_owned(), ..named("W1", "", disk("/dev/sdc", DiskType::Ssd, 200)) },
        Disk { read_only: true, ..disk("/dev/sdd", DiskType::Ssd, 50) },
        Disk { holds: "partitions ESP, ROOT-A".to_owned(), corten: true, ..disk("/dev/vda", DiskType::Hdd, 20) },
        named("S1", "", disk("/dev/vdb", DiskType::Hdd, 2)),
    ]
}

fn install(wipe: bool, disk: DiskSelector) -> Option<Install> {
    Some(Install { disk, wipe })
}

fn path(path: &str) -> DiskSelector {
    DiskSelector { path: Some(path.to_owned()), ..DiskSelector::default() }
}

fn serial(serial: &str) -> DiskSelector {
    DiskSelector { serial: Some(serial.to_owned()), ..DiskSelector::default() }
}

fn kind(kind: DiskType) -> DiskSelector {
    DiskSelector { kind: Some(kind), ..DiskSelector::default() }
}

#[test]
fn table() {
    let least = |gibibytes: u64, selector: DiskSelector| DiskSelector { min_size: Some(ByteSize(gibibytes * GIB)), ..selector };
    let wwn = DiskSelector { wwn: Some("EUI.0025388B710116A1".to_owned()), ..DiskSelector::default() };
    let all = machine();
    let only = |name: &str| all.iter().filter(|disk| disk.path.ends_with(name)).cloned().collect::<Vec<_>>();
    let adopted = |path: &str| {
        let used = |disk: Disk| if disk.path == path { Disk { used_as: "this machine's disk".to_owned(), ..disk } } else { disk };
        all.iter().cloned().map(used).collect::<Vec<_>>()
    };
    let cases = [
        ("several", all.clone(), None, ""),
        ("none", Vec::new(), None, ""),
        ("one", only("vda"), None, ""),
        ("one, removable", only("sdb"), None, ""),
        ("one, too small", only("vdb"), None, ""),
        ("one, foreign", only("sdc"), None, ""),
        ("by path", all.clone(), install(false, path("/dev/vda")), ""),
        ("by path, removable", all.clone(), install(false, path("/dev/sdb")), ""),
        ("by path, the medium", all.clone(), install(true, path("/dev/sda")), ""),
        ("by path, read-only", all.clone(), install(true, path("/dev/sdd")), ""),
        ("by path, missing", all.clone(), install(true, path("/dev/sdx")), ""),
        ("by serial", all.clone(), install(false, serial("n1")), ""),
        ("by serial, too small", all.clone(), install(false, serial("S1")), ""),
        ("by serial, foreign", all.clone(), install(false, serial("W1")), ""),
        ("by serial, foreign, wiped", all.clone(), install(true, serial("W1")), ""),
        ("by wwn", all.clone(), install(false, wwn), ""),
        ("by type", all.clone(), install(true, kind(DiskType::Ssd)), ""),
        ("by type, all but one unfit", all.clone(), install(false, kind(DiskType::Hdd)), ""),
        ("by least size", all.clone(), install(false, least(100, DiskSelector::default())), ""),
        ("by least size and type", all.clone(), install(false, least(100, kind(DiskType::Nvme))), ""),
        ("by least size and path", all.clone(), install(false, least(21, path("/dev/vda"))), ""),
        ("begun", adopted("/dev/vda"), install(false, path("/dev/vda")), "/dev/vda"),
        ("begun, another named", adopted("/dev/vda"), install(false, serial("N1")), "/dev/vda"),
    ];
    let mut table = String::new();
    for (name, disks, install, adopted) in &cases {
        let wanted = Wanted { install: install.as_ref(), partitions: &WORKER, adopted };
        match choose(disks, &wanted) {
            Ok(disk) => writeln!(table, "{name}: {}", disk.path).unwrap(),
            Err(error) => {
                let text = error.to_string().replace("; ", ";\n        ");
                writeln!(table, "{name}: {}:\n    {text}", error.field()).unwrap();
            }
        }
    }
    crate::golden::check("src/install/plan/golden/choice.txt", &table);
}
