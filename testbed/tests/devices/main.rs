//! What a machine boots from and what it remembers, with the firmware alone: a boot takes seconds. One machine at a time.

mod efi_program;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testbed::firmware::{Keys, SNAKEOIL_CERTIFICATE, SNAKEOIL_KEY, variables};
use testbed::medium::{self, Form};
use testbed::nbd::NbdDisk;
use testbed::{Boot, BootOrder, Device, Disk, DiskFormat, Drive, Firmware, Machine, MachineSpec, TpmInterface};

const LIMIT: Duration = Duration::from_secs(240);
const PATIENCE: Duration = Duration::from_secs(180);
const PROGRAM: &str = "EFI/BOOT/BOOTX64.EFI";
const IMAGE_BYTES: u64 = 4 << 20;

static ONE_MACHINE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spec(name: &str, firmware: Firmware) -> MachineSpec {
    MachineSpec::new(name, Boot::Firmware(firmware)).memory_mib(256)
}

fn start(spec: &MachineSpec) -> Machine {
    Machine::start_bounded(spec, Some("tcg"), LIMIT).expect("start")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A FAT image with a program on it.
fn image(folder: &Path, name: &str, sector_bytes: u64, program: &[u8]) -> PathBuf {
    let path = folder.join(name);
    medium::write(&path, Form::Fat { size_bytes: IMAGE_BYTES, sector_bytes }, "BOOT", &[(PROGRAM, program)]).expect("an image");
    path
}

fn raw(path: PathBuf) -> Disk {
    Disk::File { path, format: DiskFormat::Raw }
}

#[test]
fn every_kind_of_drive_boots_in_the_order_that_is_asked_for() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str, sector_bytes| image(folder.path(), name, sector_bytes, &efi_program::saying(&format!("booted from {name}")));

    let nbd = NbdDisk::empty_with_sectors(IMAGE_BYTES, 4096).expect("a disk");
    let url = format!("nbd+unix:///?socket={}", nbd.socket().display());
    run(Command::new("qemu-img").args(["convert", "-n", "-f", "raw", "-O", "raw"]).arg(at("nbd", 4096)).arg(url));
    // El Torito: the boot image lies on the ISO as a file.
    let iso = folder.path().join("optical.iso");
    let content = at("optical", 512).parent().expect("a folder").to_owned();
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-e", "optical", "-no-emul-boot", "-output"]).arg(&iso).arg(content);
    run(&mut xorriso);

    let spec = spec("drives", Firmware::find().expect("OVMF (Debian: ovmf)"))
        .nbd(&nbd)
        .drive(Drive::new(raw(at("scsi", 4096))).device(Device::Scsi { wwn: Some(0x5000_c500_0000_0001) }).sector_bytes(4096))
        .drive(Drive::new(raw(at("sata", 512))).device(Device::Sata { wwn: Some(0x5000_c500_0000_0002) }))
        .drive(Drive::new(raw(at("nvme", 4096))).device(Device::Nvme { wwn: None }).sector_bytes(4096))
        .drive(Drive::stick(at("stick", 512)))
        .drive(Drive::optical(iso))
        .boot_order(BootOrder::Drives(vec![5, 4, 3, 2, 1, 0]));
    let machine = start(&spec);
    machine.wait_console("booted from nbd", PATIENCE).expect("the last drive");
    let order: Vec<String> = machine.console().lines_with("booted from").expect("the console");
    let order: Vec<&str> = order.iter().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(order, ["optical", "stick", "nvme", "sata", "scsi", "nbd"]);
}

/// Signs a program with Debian's key for tests.
fn signed(folder: &Path, program: &[u8]) -> Vec<u8> {
    let at = |name: &str| folder.join(name);
    std::fs::write(at("program.efi"), program).expect("write");
    run(Command::new("openssl").args(["rsa", "-passin", "pass:snakeoil", "-in", SNAKEOIL_KEY, "-out"]).arg(at("key.pem")));
    let mut sign = Command::new("sbsign");
    sign.arg("--key").arg(at("key.pem")).args(["--cert", SNAKEOIL_CERTIFICATE, "--output"]).arg(at("signed.efi")).arg(at("program.efi"));
    run(&mut sign);
    std::fs::read(at("signed.efi")).expect("the signed program")
}

#[test]
fn secure_boot_refuses_what_is_not_signed_and_boots_what_is() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("temporary directory");
    let unsigned = efi_program::saying("this must not be said");
    let signed = signed(folder.path(), &efi_program::saying("signed and booted"));
    let spec = spec("secure", Firmware::find_secure(Keys::Snakeoil).expect("OVMF with Secure Boot (Debian: ovmf)"))
        .disk(raw(image(folder.path(), "unsigned", 512, &unsigned)))
        .disk(raw(image(folder.path(), "signed", 512, &signed)));
    let machine = start(&spec);
    machine.wait_console("signed and booted", PATIENCE).expect("the signed program");
    let console = machine.console().text().expect("the console");
    assert!(console.contains("Access Denied") && !console.contains("this must not be said"), "{console}");
}

/// How often the firmware has started with these variables: EDK II counts in `MTC`, the high half of its monotonic counter.
fn starts(file: &Path) -> u32 {
    let variables = variables::read(file).expect("variables");
    let counter = variables.iter().find(|variable| variable.name == "MTC").expect("the firmware's counter of starts");
    u32::from_le_bytes(counter.value.as_slice().try_into().expect("four bytes"))
}

#[test]
fn variables_and_tpm_outlast_the_power_until_they_are_reset() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("temporary directory");
    let (variables, tpm) = (folder.path().join("variables.fd"), folder.path().join("tpm"));
    let disk = image(folder.path(), "disk", 512, &efi_program::saying("booted"));
    let spec = spec("remembers", Firmware::find().expect("OVMF (Debian: ovmf)"))
        .disk(raw(disk))
        .boot_order(BootOrder::Variables)
        .variables(&variables)
        .tpm(TpmInterface::Crb, Some(tpm.clone()));
    let boot = || {
        let mut machine = start(&spec);
        machine.wait_console("booted", PATIENCE).expect("the program");
        let log = std::fs::read_to_string(machine.directory().join("tpm.log")).expect("the TPM's log");
        machine.kill();
        // TPM2_PCR_Extend, command code 0x182: the firmware measures what it runs.
        assert!(log.contains("00 00 01 82"), "the firmware measured nothing");
        starts(&variables)
    };
    let first = boot();
    assert!(std::fs::read_dir(&tpm).expect("the TPM's state").next().is_some(), "the TPM kept nothing");
    let options = variables::boot_options(&variables::read(&variables).expect("variables"));
    assert!(options.iter().any(|option| option.active), "{options:?}");
    assert_eq!(boot(), first + 1);
    std::fs::remove_file(&variables).expect("remove");
    assert_eq!(boot(), first);
}

#[test]
fn a_tpm_ends_with_a_machine_that_does_not_start() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut spec = spec("wrong", Firmware::find().expect("OVMF (Debian: ovmf)")).tpm(TpmInterface::Tis, None);
    spec.extra = vec!["-device".to_owned(), "nonsense".to_owned()];
    let lifetime = testbed::Lifetime::Bounded(Duration::from_secs(20));
    let error = Machine::start(&spec, folder.path(), &[testbed::Accelerator::Tcg], lifetime).expect_err("an error").to_string();
    assert!(error.contains("nonsense"), "{error}");
    let process = std::fs::read_to_string(folder.path().join("tpm.pid")).map(|text| text.trim().parse().expect("a number"));
    // It removes the file when it ends by itself.
    assert!(process.map_or(true, |number| testbed::ProcessId::of(number).is_none()), "it still runs");
}
