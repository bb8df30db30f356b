//! The machine's boots: what init found in this one, and what is recorded of each.

use machine::protocol::BootFacts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::boots::record::Record;
use crate::store::Resource;

/// What init found and did on the way up, named by the boot's id.
impl Resource for BootFacts {
    const KIND: &'static str = "bootfacts";
}

/// A boot, named by its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boot {
    #[serde(flatten)]
    pub record: Record,
    /// `running`, or how it ended: `ordered`, `crashed`, `watchdog`, `unknown`.
    pub ended: String,
    /// Why it ended, in words.
    pub reason: String,
    /// Of the running boot: the fields of its [`BootFacts`].
    #[serde(flatten)]
    pub facts: Map<String, Value>,
}

impl Boot {
    pub fn running(record: Record, facts: Map<String, Value>) -> Boot {
        Boot { record, ended: "running".to_owned(), reason: String::new(), facts }
    }

    pub fn over(record: Record) -> Boot {
        let (ended, reason) = record.ending.as_ref().map(|ending| (ending.word(), ending.reason())).unwrap_or_default();
        Boot { ended: ended.to_owned(), reason, record, facts: Map::new() }
    }
}

impl Resource for Boot {
    const KIND: &'static str = "boots";
}
