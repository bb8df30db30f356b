//! Where there is a metadata service, and the rules that keep pods from it.

use crate::plan::Plan;
use crate::sources::{METADATA_ADDRESS, has_metadata};

pub const TABLE: &str = "corten-metadata";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As [`machine::protocol::BootFacts`] has it.
    pub platform: String,
    /// Whether the image has Kubernetes: without it there are no pods.
    pub kubernetes: bool,
    /// Whether the kernel has the table as it was made.
    pub in_place: bool,
}

pub fn plan(seen: &Seen) -> Plan<String> {
    match wanted(&seen.platform, seen.kubernetes) {
        Some(rules) if !seen.in_place => Plan::Act(vec![rules]),
        Some(_) | None => Plan::Settled,
    }
}

/// The rules for nft; none where nobody has to be kept from anything.
pub fn wanted(platform: &str, kubernetes: bool) -> Option<String> {
    (has_metadata(platform) && kubernetes).then(rules)
}

/// In one transaction, so that there is no moment without. The first line is for a table that is not there: deleting it would be an error.
/// GCP's name server has the same address, and cluster DNS asks it.
fn rules() -> String {
    format!(
        "table inet {TABLE}\n\
         delete table inet {TABLE}\n\
         table inet {TABLE} {{\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter - 10; policy accept;\n\
         \t\tip daddr {METADATA_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53 accept\n\
         \t\tip daddr {METADATA_ADDRESS} reject with icmpx type admin-prohibited\n\
         \t\tip6 daddr fd00:ec2::254 reject with icmpx type admin-prohibited\n\
         \t}}\n\
         }}\n"
    )
}
