//! Names the instants between two writes at which a power cut would be seen, so that tests can cut exactly there.
//!
//! In production nothing is asked for and every point is passed. A test gives a plan of its own; a build with the feature `failpoints` stops
//! what reaches the point that the kernel parameter `corten.failpoint=` names and says so on the console, for a host that then cuts the power.

use std::fmt;
use std::io;
use std::sync::Arc;

type Plan = dyn Fn(&'static str) -> io::Result<()> + Send + Sync;

/// What happens at the points; clones share it.
#[derive(Clone, Default)]
pub struct Failpoints(Option<Arc<Plan>>);

impl Failpoints {
    /// Asks this at each point; an error ends the work there, as a cut would.
    #[cfg(any(test, feature = "failpoints"))]
    pub fn new(plan: impl Fn(&'static str) -> io::Result<()> + Send + Sync + 'static) -> Failpoints {
        Failpoints(Some(Arc::new(plan)))
    }

    /// Passes a point. Names are `<subject>::<what was done>`; golden/failpoints.txt lists them all.
    pub fn reach(&self, name: &'static str) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |plan| plan(name))
    }

    /// Stops for ever at the point that the kernel command line names (`corten.failpoint=esp::entry-renamed`, `...@2` for the second time).
    #[cfg(feature = "failpoints")]
    pub fn from_command_line(root: &machine::Root, console: crate::console::Console) -> Failpoints {
        let line = std::fs::read_to_string(root.path("/proc/cmdline")).unwrap_or_default();
        let Some(wanted) = line.split_whitespace().find_map(|word| word.strip_prefix("corten.failpoint=")) else {
            return Failpoints::default();
        };
        let (name, nth) = wanted.split_once('@').map_or((wanted, 1), |(name, nth)| (name, nth.parse().unwrap_or(1)));
        let (name, passed) = (name.to_owned(), std::sync::atomic::AtomicU64::new(0));
        Failpoints::new(move |reached| {
            if reached == name && passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == nth {
                loop {
                    // Again and again: a console that is busy loses a line.
                    console.print(&format!("failpoint {reached} reached"));
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Failpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failpoints({})", if self.0.is_some() { "planned" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Whoever cuts the power at each point takes the names from this list.
    #[test]
    fn names() {
        let mut names = BTreeSet::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
        assert!(names.iter().all(|name| name.contains("::")), "{names:?}");
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        crate::golden::check("src/golden/failpoints.txt", &list);
    }

    fn collect(directory: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, names);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let calls = text.split(concat!(".reach", "(\"")).skip(1);
                names.extend(calls.filter_map(|call| Some(call.split_once('"')?.0.to_owned())));
            }
        }
    }
}
