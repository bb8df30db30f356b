//! What came of a change on one machine: pods are let back where the machine is known to run one image or the other, and the user is told.

use std::time::Duration;

use api::v1::GetVersionRequest;

use super::change::Change;
use super::drain::Cordon;
use super::fleet::Member;
use super::record::{Fate, Record};
use crate::failure::{Failure, Kind};
use crate::progress::Progress;
use crate::verbs::health::{AGAIN, last_report, summary};
use crate::verbs::power::await_boot;

/// How long a machine that gave up its new image may take until it answers from the old one.
const FALL_BACK: Duration = Duration::from_secs(5 * 60);

/// What is told of the machine's fate, good or bad.
pub async fn settle(fate: Result<Fate, Failure>, member: &Member, cordon: Option<Cordon>, progress: &Progress) -> Result<String, Failure> {
    match fate {
        Ok(Fate::Blessed(record)) => {
            lift(cordon, progress).await?;
            Ok(format!("runs {} (slot {}), proven good", record.to_version, record.to_slot))
        }
        Ok(Fate::Failed(record)) => fallen_back(record, member, cordon, progress).await,
        // Nobody knows what state it is in: pods are kept away.
        Err(failure) => Err(still_cordoned(failure, cordon)),
    }
}

/// Waits until the machine is healthy in another boot. Where it is not, pods are kept away.
pub async fn rebooted(member: &Member, deadline: Duration, cordon: Option<Cordon>, progress: &Progress) -> Result<String, Failure> {
    let session = &member.session;
    let back = async {
        await_boot(session, Some(&member.version.boot_id), progress).await?;
        let report = last_report(session, Some(deadline), progress).await?;
        if report.healthy { Ok(()) } else { Err(Failure::new(&session.node, summary(&report))) }
    };
    let late = |_| Err(Failure::deadline(&session.node, "not healthy after its reboot", deadline).remedy("give it more time with --wait"));
    match tokio::time::timeout(deadline, back).await.unwrap_or_else(late) {
        Ok(()) => lift(cordon, progress).await.map(|()| "has rebooted and is healthy".to_owned()),
        Err(failure) => Err(still_cordoned(failure, cordon)),
    }
}

/// The machine runs on as it did: pods may come back.
pub async fn not_begun(failure: Failure, cordon: Option<Cordon>, progress: &Progress) -> Result<String, Failure> {
    match lift(cordon, progress).await {
        Ok(()) => Err(failure),
        Err(second) => Err(preceded(failure, second.to_string())),
    }
}

async fn fallen_back(record: Record, member: &Member, cordon: Option<Cordon>, progress: &Progress) -> Result<String, Failure> {
    let node = member.node();
    let wanted = record.was_given_up() && matches!(member.change, Change::Rollback);
    let is_back = is_back_in_old_slot(member, &record, progress).await;
    match (wanted, is_back) {
        (true, true) => {
            lift(cordon, progress).await?;
            Ok(format!("runs {} (slot {}) again; {} was given up", record.from_version, record.from_slot, record.to_version))
        }
        (true, false) => {
            let problem = format!("{} does not run again within {}", record.from_version, machine::config::Duration(FALL_BACK));
            Err(still_cordoned(Failure { kind: Kind::Deadline, ..Failure::new(node, problem) }, cordon))
        }
        (false, true) => not_begun(record.failure(node), cordon, progress).await,
        (false, false) => Err(still_cordoned(record.failure(node), cordon)),
    }
}

/// The record says `failed` a moment before the machine reboots.
async fn is_back_in_old_slot(member: &Member, record: &Record, progress: &Progress) -> bool {
    progress.wait_for(format!("{} falls back to {}", member.node(), record.from_version));
    let back = async {
        loop {
            match member.session.machine().get_version(GetVersionRequest {}).await {
                Ok(version) if version.get_ref().slot == record.from_slot => return,
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    tokio::time::timeout(FALL_BACK, back).await.is_ok()
}

async fn lift(cordon: Option<Cordon>, progress: &Progress) -> Result<(), Failure> {
    match cordon {
        Some(cordon) => cordon.lift(progress).await,
        None => Ok(()),
    }
}

fn still_cordoned(failure: Failure, cordon: Option<Cordon>) -> Failure {
    match cordon.and_then(Cordon::left) {
        Some(left) => preceded(failure, left),
        None => failure,
    }
}

/// What matters most comes last: that is what a terminal still shows.
fn preceded(failure: Failure, by: String) -> Failure {
    Failure { problems: [vec![by], failure.problems].concat(), ..failure }
}
