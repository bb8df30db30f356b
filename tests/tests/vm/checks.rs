//! Many questions to one machine: a boot costs minutes, a question seconds.

use std::time::Instant;

use tests::cluster::{Cluster, KERNEL_PANIC};

/// A claim, and how it is checked.
pub type Check = (&'static str, fn(&Cluster) -> anyhow::Result<()>);

/// Makes a cluster and checks every claim on it, and fails with all that do not hold.
///
/// Once more where the guest's kernel panicked: QEMU 7.2's emulation of a kernel that patches its own code under load does so now and then.
pub fn run(make: impl Fn() -> anyhow::Result<Cluster>, checks: &[Check]) {
    let attempt = || match make() {
        Ok(cluster) => on(&cluster, checks).map_err(|error| (error, cluster.kernel_panicked())),
        Err(error) => {
            let error = format!("{error:#}");
            let panicked = error.contains(KERNEL_PANIC);
            Err((error, panicked))
        }
    };
    let outcome = attempt().or_else(|(error, panicked)| {
        if !panicked {
            return Err((error, false));
        }
        println!("the guest's kernel panicked; trying once more. It was: {error}");
        attempt()
    });
    if let Err((error, _)) = outcome {
        panic!("{error}");
    }
}

/// Checks every claim, also after one that does not hold.
fn on(cluster: &Cluster, checks: &[Check]) -> Result<(), String> {
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
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{} of {} claims do not hold:\n{}", failures.len(), checks.len(), failures.join("\n")))
}
