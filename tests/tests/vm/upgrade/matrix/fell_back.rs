//! Images that never get as far as a healthy agent: their tries are used up, and the boot loader takes the one before.

use std::path::PathBuf;

use anyhow::Context;
use tests::images::program;

use super::super::swap::upgrade;
use super::Stage;

/// Two tries: that they are counted is seen, and no more time is spent on it than needed.
const HEALTH: &str = "{ machine: { health: { hold: 5s, deadline: 3m, tries: 2 } } }";
/// Where a try costs minutes.
const ONE_TRY: &str = "{ machine: { health: { hold: 5s, deadline: 3m, tries: 1 } } }";

/// Name, version, how the update is made.
type Row = (&'static str, &'static str, fn(&Stage, &str) -> anyhow::Result<PathBuf>);

const PANIC: Row = ("kernel panic", "0.2.1", |stage, version| stage.of_parts(version, |parts, folder| parts.with_panicking_kernel(folder)));

const ROWS: &[Row] = &[
    PANIC,
    ("init that exits", "0.2.2", |stage, version| stage.updates.build("bare", version, |build| build.replace("init", program::exits(1)))),
    ("empty but verity-valid root", "0.2.3", |stage, version| stage.of_parts(version, |parts, folder| parts.with_empty_root(folder))),
    // The superblock of EROFS lies at byte 1024: no boot goes without it.
    ("root with a flipped byte", "0.2.4", |stage, version| stage.of_parts(version, |parts, folder| parts.with_flipped_byte(1030, folder))),
];

/// Its agent freezes init, which then feeds the watchdog no more.
const HANG: Row = ("init that hangs", "0.2.5", |stage, version| {
    let freezes = program::writes("/sys/fs/cgroup/init/cgroup.freeze", "1");
    stage.updates.build("bare", version, |build| build.replace("nodeagent", freezes))
});

/// Nobody vouches for the image, and init's free minutes run out.
const CRASHES: Row = ("agent crash loop", "0.2.6", |stage, version| {
    stage.updates.build("bare", version, |build| build.replace("nodeagent", program::exits(1)))
});

/// Found out by no look at the slot, since the digests are those of what is there, and by no boot before the program is started.
const LATE_ROT: Row = ("agent with a flipped byte", "0.2.7", |stage, version| {
    stage.of_parts(version, |parts, folder| parts.with_flipped_file("/usr/bin/nodeagent", folder))
});

pub fn kernel_panic(stage: &Stage) -> anyhow::Result<()> {
    falls_back(stage, PANIC)
}

fn falls_back(stage: &Stage, (name, version, make): Row) -> anyhow::Result<()> {
    println!("  {name}");
    let began = std::time::Instant::now();
    let happens = || {
        let before = stage.standing()?;
        let file = make(stage, version)?;
        match upgrade(&stage.node, &file) {
            Ok(printed) => anyhow::bail!("the image was kept: {printed}"),
            Err(error) => anyhow::ensure!(format!("{error:#}").contains("was not kept"), "{error:#}"),
        }
        stage.fell_back(&before, &file, "boot", "the new image did not come up")
    };
    happens().with_context(|| name.to_owned())?;
    println!("    {} s", began.elapsed().as_secs());
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn images_that_do_not_come_up() -> anyhow::Result<()> {
    let stage = Stage::new(HEALTH)?;
    ROWS.iter().try_for_each(|row| falls_back(&stage, *row))
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn an_init_that_hangs() -> anyhow::Result<()> {
    falls_back(&Stage::new(ONE_TRY)?, HANG)
}

/// As the one before, without a watchdog but the kernel's own.
#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn an_init_that_hangs_where_there_is_no_watchdog() -> anyhow::Result<()> {
    falls_back(&Stage::on(ONE_TRY, |hardware| hardware.watchdog = None)?, HANG)
}

#[test]
#[ignore = "boots a VM, for 10 minutes: make vm-test T=upgrade"]
fn an_agent_that_crashes_for_ever() -> anyhow::Result<()> {
    falls_back(&Stage::new(ONE_TRY)?, CRASHES)
}

#[test]
#[ignore = "boots a VM, for 10 minutes: make vm-test T=upgrade"]
fn an_agent_that_cannot_be_read() -> anyhow::Result<()> {
    falls_back(&Stage::new(ONE_TRY)?, LATE_ROT)
}
