//! Applying an update, natively: the released agent takes a whole controlplane image over its API onto files of a local disk and flips to it;
//! then another one, with a changed program, over what the slot has from the first. How long it takes, how the agent's memory grows, and whether more is
//! written than differs. Firmware, boot loader and reboot are not in it. Needs root.

mod client;
mod disk;

use std::time::Instant;

use anyhow::Context;
use controlplane::pki::MachineRole;
use serde_json::json;
use update::UpdateFile;

use crate::api::{agent, identities::Identities, namespace};
use crate::delta::{Named, pairs};
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;
use crate::{programs, report};
use client::Client;
use disk::PlayedDisk;

const PROFILE: &str = "controlplane";
const GOAL_SECONDS: f64 = 15.0;
const GOAL_MEBIBYTES: f64 = 16.0;

pub fn measure(named: &Named) -> anyhow::Result<Outcome> {
    let (update, changed) = match named.files() {
        Some((old, new)) => (old.to_owned(), new.to_owned()),
        None => (pairs::update_of(&programs::image(PROFILE))?, pairs::changed_image(PROFILE)?),
    };
    let running = pairs::update_of(&programs::image("bare"))?;
    let [update, changed, running] =
        [update, changed, running].map(|path| UpdateFile::open(&path).with_context(|| path.display().to_string()));
    let (update, changed, running) = (update?, changed?, running?);
    // Namespaces are a thread's.
    let measured = std::thread::Builder::new().name("apply".to_owned()).spawn(move || {
        namespace::enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(apply(&running, [("whole", &update), ("after it", &changed)]))
    })?;
    measured.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

async fn apply(running: &UpdateFile, updates: [(&str, &UpdateFile); 2]) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(report::directory())?;
    // A temporary folder of the system may lie in memory.
    let folder = tempfile::Builder::new().prefix("apply-").tempdir_in(report::directory())?;
    let identities = Identities::generate(MachineRole::Admin)?;
    let (disk, played) = PlayedDisk::lay_out(&folder.path().join("machine"), running, PROFILE)?;
    let agent = agent::start(&folder.path().join("machine"), &identities, &played).await.context("our agent")?;
    let mut client = Client::connect(&identities).await?;
    client.version().await?;
    let mut outcome = Outcome { details: json!({}), ..Outcome::default() };
    for (name, update) in updates {
        let before = disk.other_slot()?;
        agent.forget_peak()?;
        let (resident, processor, began) = (agent.status_kib("VmRSS")?, agent.processor_time()?, Instant::now());
        let sent = client.apply(update).await.with_context(|| format!("applying the {name}"))?;
        let seconds = began.elapsed().as_secs_f64();
        let processor = (agent.processor_time()? - processor).as_secs_f64();
        let grown = agent.status_kib("VmHWM")?.saturating_sub(resident) as f64 / 1024.0;
        eprintln!("bench: {name}: {seconds:.1} s, {processor:.1} s of processor time, {grown:.1} MiB of memory more");
        let (written, differing) = (disk.written_bytes()?, disk.differing(&before)?);
        drop(before);
        let name = |what: &str| format!("{name}: {what}");
        let megabytes = |bytes: u64| Samples::exact(bytes as f64 / 1e6);
        let whole = sent.raw_bytes as f64 / 1e6;
        outcome.figures.extend([
            Figure::alone(name("offer, upload, read back, flip"), Unit::Seconds, Samples::exact(seconds), Goal::AtMost(GOAL_SECONDS)),
            Figure::alone(name("  of it processor time of the agent"), Unit::Seconds, Samples::exact(processor), Goal::None),
            Figure::alone(name("growth of the agent's memory"), Unit::Mebibytes, Samples::exact(grown), Goal::AtMost(GOAL_MEBIBYTES)),
            Figure::beside(
                name("written (peer: blocks that differ)"),
                Unit::Megabytes,
                megabytes(written),
                megabytes(differing),
                Goal::RatioAtMost(1.0),
            ),
        ]);
        outcome.notes.push(format!(
            "{}: image of {whole:.0} MB, {} chunks of {:.1} MB sent",
            name("update"),
            sent.chunks,
            sent.bytes as f64 / 1e6
        ));
        outcome.details[name("sent")] = json!({ "chunks": sent.chunks, "bytes": sent.bytes, "rawBytes": sent.raw_bytes, "written": written, "differing": differing,
                "residentKiB": resident, "peakGrowthMiB": grown, "seconds": seconds, "processorSeconds": processor });
    }
    outcome.notes.push(
        "natively, on files of the host's disk with every fsync; chunks whole, no patches; memory: VmHWM against VmRSS before".to_owned(),
    );
    Ok(outcome)
}
