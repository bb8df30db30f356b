//! What of a machine stays as it is when an update comes to nothing, and what its record then says.

use anyhow::{Context, ensure};
use serde_json::Value;

/// What a machine's administrator is told as JSON, by one machinectl.
pub type Ask<'a> = &'a dyn Fn(&[&str]) -> anyhow::Result<Value>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub version: String,
    pub slot: String,
    /// The config generation in force.
    pub generation: u64,
    /// Whether the boot loader takes the running slot without counting.
    pub blessed: bool,
    /// Whether it would try the other one.
    pub other_is_tried: bool,
}

impl Standing {
    pub fn of(ask: Ask<'_>) -> anyhow::Result<Standing> {
        let (version, slot) = running(ask)?;
        let history = ask(&["config", "history", "--timeout", "20s"])?;
        let current = history.as_array().and_then(|all| all.iter().find(|one| one["current"] == true));
        let generation = current.and_then(|one| one["generation"].as_u64()).with_context(|| format!("no generation in {history}"))?;
        let slots = objects(ask, "slots")?;
        let status = |runs: bool| slots.iter().map(|slot| &slot["status"]).find(|status| status["running"] == runs);
        let blessed = status(true).is_some_and(|status| status["blessed"] == true);
        let other_is_tried =
            status(false).is_some_and(|status| status["blessed"] == true || status["triesLeft"].as_u64().is_some_and(|left| left > 0));
        Ok(Standing { version, slot, generation, blessed, other_is_tried })
    }
}

/// Version and slot that run.
pub fn running(ask: Ask<'_>) -> anyhow::Result<(String, String)> {
    let answers = ask(&["version", "--timeout", "20s"])?;
    let field = |name: &str| answers[0][name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {answers}"));
    Ok((field("version")?, field("slot")?))
}

/// The newest upgrade's record.
pub fn last_record(ask: Ask<'_>) -> anyhow::Result<Value> {
    let mut records = objects(ask, "upgrades")?;
    records.sort_by_key(|record| record["status"]["number"].as_u64().or_else(|| record["number"].as_u64()));
    records.pop().context("no record of an upgrade")
}

fn objects(ask: Ask<'_>, kind: &str) -> anyhow::Result<Vec<Value>> {
    match ask(&["get", kind, "--timeout", "20s"])? {
        Value::Array(objects) => Ok(objects),
        other => anyhow::bail!("machinectl get {kind}: expected a list of objects, got {other}"),
    }
}

/// Shows why the upgrade of this record failed, and holds it against what was expected.
pub fn reason_is(record: &Value, check: &str, says: &str) -> anyhow::Result<()> {
    let reason = &record["reason"];
    println!("    {}: {}", reason["check"], reason["message"]);
    for line in reason["logTail"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("      {line}");
    }
    ensure!(reason["check"] == check, "the reason is {reason}; expected check {check}");
    ensure!(reason["message"].as_str().is_some_and(|text| text.contains(says)), "the reason is {reason}; expected {says:?}");
    Ok(())
}
