//! Many questions to one machine: a boot costs minutes, a question seconds.

use std::time::Instant;

use tests::cluster::Cluster;

/// A claim, and how it is checked.
pub type Check = (&'static str, fn(&Cluster) -> anyhow::Result<()>);

/// Checks every claim, also after one that does not hold, and fails with all that do not.
pub fn run(cluster: &Cluster, checks: &[Check]) {
    let mut failures = Vec::new();
    for (claim, check) in checks {
        let began = Instant::now();
        let result = check(cluster);
        let seconds = began.elapsed().as_secs_f32();
        match result {
            Ok(()) => println!("  holds ({seconds:5.1} s): {claim}"),
            Err(error) => {
                println!("  FAILS ({seconds:5.1} s): {claim}: {error:#}");
                failures.push(format!("{claim}: {error:#}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {} claims do not hold:\n{}", failures.len(), checks.len(), failures.join("\n"));
}
