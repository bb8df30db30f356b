//! Cuts at every instant that has a name (`nodeagent/src/golden/failpoints.txt`): the machine stops there, and the power goes.
//!
//! The agent is one that knows failpoints; which it stops at stands in the kernel's command line, where the UKI's stub puts what the firmware
//! tells it. The agents of other images know none, whatever they are told.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use testbed::Drive;
use testbed::nbd::NbdDisk;
use tests::node::{Node, Up};
use tests::place;
use tests::program::Running;
use tests::until::until;

use super::super::swap::running;
use super::cut::PATIENCE;
use super::look::{no_corruption, sane};
use super::prepared::{BRIEF, Prepared, State, first_config, generation, second_config};
use crate::media::install::by_serial;

/// Between two looks at the console: the sooner the power goes, the less else the machine writes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Something that a machine does, and the points that it passes then, in their order.
#[derive(Debug, Clone, Copy)]
struct Way {
    what: What,
    points: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// From the ISO image to a disk.
    Install,
    /// To 0.2.0, in a slot that was empty.
    Upgrade,
    /// To 0.1.0 by its update file, in a slot that has been used.
    Downgrade,
    /// The first boot of 0.2.0, until it is kept.
    Arrive,
    /// The same, with another config than when it was staged.
    ArriveReconfigured,
    /// A rollback while 0.2.0 is on trial.
    GiveUp,
    /// A rollback from 0.2.0, kept, to 0.1.0.
    GoBack,
    /// Config after config.
    Configure,
}

/// What came up after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Medium,
    Image { version: String, generation: u64 },
}

const WAYS: &[Way] = &[
    Way {
        what: What::Install,
        points: &[
            "install::laid-out",
            "install::file-system-made",
            "install::boot-files-written",
            "install::image-copied",
            "install::adopted",
            "install::state-opened",
            "config::document-written",
            "config::record-written",
            "config::pointed",
            "install::config-kept",
            "esp::entry-written",
            "esp::entry-renamed",
            "esp::entry-synced",
            "install::entry-written",
            "install::completed",
        ],
    },
    Way {
        what: What::Configure,
        points: &["config::document-written", "config::record-written", "config::pointed", "config::record-removed"],
    },
    Way {
        what: What::GiveUp,
        points: &[
            "fail::reason-noted",
            "esp::entry-written",
            "esp::entry-renamed",
            "esp::entry-synced",
            "esp::entry-removed",
            "esp::removal-synced",
            "fail::condemned",
            "config::pointed",
            "fail::generation-restored",
            "fail::recorded",
        ],
    },
    Way {
        what: What::Arrive,
        points: &[
            "settle::generation-restored",
            "settle::arrived",
            "esp::entry-written",
            "esp::entry-renamed",
            "esp::entry-synced",
            "esp::entry-removed",
            "esp::removal-synced",
            "bless::slot-noted",
            "bless::recorded",
        ],
    },
    Way {
        what: What::GoBack,
        points: &[
            "rollback::begun",
            "rollback::recorded",
            "esp::entry-renamed",
            "esp::entry-removed",
            "rollback::flipped",
            "start::reboot-recorded",
        ],
    },
    Way { what: What::Downgrade, points: &["esp::entry-removed", "esp::removal-synced", "offer::slot-forgotten", "esp::image-reused"] },
    Way { what: What::ArriveReconfigured, points: &["settle::slot-pinned-again", "settle::pinned-again"] },
    Way {
        what: What::Upgrade,
        points: &[
            "offer::recorded",
            "offer::slot-forgotten",
            "slot::chunk-written",
            "slot::synced",
            "slot::hashes-written",
            "start::verifying",
            "start::recorded",
            "esp::image-renamed",
            "esp::image-synced",
            "esp::entry-written",
            "esp::entry-renamed",
            "esp::entry-synced",
            "start::flipped",
            "start::reboot-recorded",
        ],
    },
];

impl What {
    fn begins(self) -> State {
        match self {
            What::Install => State::Empty,
            What::Upgrade | What::Configure => State::Configured,
            What::Downgrade | What::GoBack => State::Blessed,
            What::Arrive => State::Staged,
            What::ArriveReconfigured => State::Reconfigured,
            What::GiveUp => State::OnTrial,
        }
    }

    /// Whether it comes of itself when the machine boots.
    fn is_boot(self) -> bool {
        matches!(self, What::Arrive | What::ArriveReconfigured)
    }

    /// Whether each boot of it is one of the few that the new image has.
    fn takes_tries(self) -> bool {
        self.is_boot() || self == What::GiveUp
    }

    /// The old and the new, each with the config that belongs to it. The old is where it begins.
    fn ends(self) -> Vec<Found> {
        let image = |version: &str, generation| Found::Image { version: version.to_owned(), generation };
        match self {
            What::Install => vec![Found::Medium, image("0.1.0", 1)],
            What::Upgrade => vec![image("0.1.0", 1), image("0.2.0", 1)],
            // It keeps its config, as every update does.
            What::Downgrade => vec![image("0.2.0", 2), image("0.1.0", 2)],
            What::Arrive => vec![image("0.2.0", 1)],
            What::ArriveReconfigured => vec![image("0.2.0", 2)],
            What::GiveUp | What::GoBack => vec![image("0.2.0", 2), image("0.1.0", 1)],
            What::Configure => vec![image("0.1.0", 1), image("0.1.0", 2)],
        }
    }

    /// What is asked of the machine, again and again until it is at the point.
    fn commands(self, prepared: &Prepared) -> anyhow::Result<Vec<Vec<String>>> {
        let node = &prepared.node;
        let upgrade =
            |version| anyhow::Ok(vec!["upgrade".to_owned(), prepared.update(version)?, "--yes".to_owned(), "--no-drain".to_owned()]);
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let apply = |path: String| vec!["apply".to_owned(), "-f".to_owned(), path];
        Ok(match self {
            What::Install => vec![apply(node.config())],
            What::Upgrade => vec![upgrade("0.2.0")?],
            What::Downgrade => vec![[upgrade("0.1.0")?, words(&["--allow-downgrade"])].concat()],
            What::Arrive | What::ArriveReconfigured => Vec::new(),
            What::GiveUp | What::GoBack => vec![words(&["rollback", "--yes", "--no-drain"])],
            // More than are kept.
            What::Configure => (0..10)
                .flat_map(|_| [second_config(node, BRIEF), first_config(node, BRIEF)])
                .map(|path| path.map(apply))
                .collect::<anyhow::Result<_>>()?,
        })
    }
}

impl Way {
    /// Cuts at each of the points: a boot for each, where the machine that the last cut left can still go this way, and from the beginning
    /// otherwise.
    fn go(self, prepared: &mut Prepared, points: &[&str]) -> anyhow::Result<()> {
        let mut on: Option<(NbdDisk, Up)> = None;
        for (index, point) in points.iter().enumerate() {
            let began = Instant::now();
            let (disk, up) = match on.take() {
                Some(on) => on,
                None => self.begin(prepared, point)?,
            };
            self.reach(prepared, &up, point).with_context(|| format!("{:?} to {point}", self.what))?;
            prepared.node.kill();
            let report = disk.cut(index as u64)?;

            // With the next point already, where it is a command that leads there.
            let next = points.get(index + 1).filter(|_| !self.what.takes_tries());
            let mut up = next.map_or(Ok(None), |next| come_up(prepared, &disk, next))?;
            let goes_on = up.is_some();
            if !goes_on {
                prepared.node.kill();
                disk.cut(index as u64)?;
                prepared.node.hardware.kernel_argument = None;
                prepared.node.boot(&disk)?;
                up = Some(prepared.node.up()?);
            }
            let up = up.context("a machine that is up")?;
            let found = look(prepared, &disk, &up).with_context(|| format!("{:?}, cut at {point}", self.what))?;
            println!("  {:?}, {point}: {found:?}; {report:?}; {} s", self.what, began.elapsed().as_secs());
            let ends = self.what.ends();
            ensure!(ends.contains(&found), "{:?}, cut at {point}: {found:?}, not one of {ends:?}", self.what);
            if goes_on && found == ends[0] {
                on = Some((disk, up));
            } else {
                prepared.node.kill();
            }
        }
        Ok(())
    }

    fn begin(self, prepared: &mut Prepared, point: &str) -> anyhow::Result<(NbdDisk, Up)> {
        let disk = prepared.disk(self.what.begins())?;
        if self.what.is_boot() {
            prepared.node.hardware.kernel_argument = Some(argument(point));
            prepared.node.boot(&disk)?;
            return Ok((disk, Up::Configured));
        }
        let up = come_up(prepared, &disk, point)?;
        Ok((disk, up.with_context(|| format!("{point} is reached before the machine is up"))?))
    }

    /// Until the machine stands at the point.
    fn reach(self, prepared: &Prepared, up: &Up, point: &str) -> anyhow::Result<()> {
        let node = &prepared.node;
        let began = Instant::now();
        let mut commands = self.what.commands(prepared)?.into_iter();
        let mut given: Option<Running> = None;
        while !stands(node, point)? {
            ensure!(began.elapsed() < PATIENCE, "not within {} s: {}", PATIENCE.as_secs(), node.machine()?.console().tail());
            // One that ends before the point must have done what it was given for.
            if given.as_mut().map_or(Ok(false), Running::is_over)? {
                given.take().map(Running::printed).transpose()?;
            }
            if given.is_none()
                && let Some(words) = commands.next()
            {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                given = Some(Running::start(&mut node.command(up, &words)?)?);
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }
}

/// Boots the machine for a cut at this point. None: what it does when it starts leads there already.
fn come_up(prepared: &mut Prepared, disk: &NbdDisk, point: &str) -> anyhow::Result<Option<Up>> {
    prepared.node.hardware.kernel_argument = Some(argument(point));
    prepared.node.boot(disk)?;
    let node = &prepared.node;
    until("a machine that is up", PATIENCE, || if stands(node, point)? { Ok(None) } else { node.answer().map(Some) })
}

fn stands(node: &Node, point: &str) -> anyhow::Result<bool> {
    Ok(node.machine()?.console().line_with(&format!("failpoint {point} reached"))?.is_some())
}

fn look(prepared: &Prepared, disk: &NbdDisk, up: &Up) -> anyhow::Result<Found> {
    let node = &prepared.node;
    if let Up::Maintenance { .. } = up {
        return Ok(Found::Medium);
    }
    let (version, slot) = running(node)?;
    ensure!([("0.1.0", "a"), ("0.2.0", "b")].contains(&(version.as_str(), slot.as_str())), "{version} runs from slot {slot}");
    sane(disk, &prepared.slots())?;
    no_corruption(node)?;
    Ok(Found::Image { version, generation: generation(node)? })
}

/// Of the kernel.
fn argument(point: &str) -> String {
    format!("corten.failpoint={point}")
}

/// All points of all ways, or those whose names (`GiveUp/fail::condemned`) have one of the parts that `CORTEN_FAILPOINTS` lists in them.
#[test]
#[ignore = "boots VMs: make vm-test T=upgrade"]
fn every_failpoint() -> anyhow::Result<()> {
    let agent = place::failpoint_agent();
    let agent = fs::read(&agent).with_context(|| format!("{} (make failpoint-agent)", agent.display()))?;
    let mut prepared = Prepared::with_agent(&agent, &[&by_serial()])?;
    // Tried after the disk, which an empty one cannot be.
    prepared.node.hardware.drives.push(Drive::optical(prepared.image("0.1.0").join("corten.iso")));
    let asked = std::env::var("CORTEN_FAILPOINTS").unwrap_or_default();
    let is_asked = |name: String| asked.split(',').any(|part| name.contains(part));
    let mut wrong = Vec::new();
    for way in WAYS {
        let points: Vec<&str> = way.points.iter().copied().filter(|point| is_asked(format!("{:?}/{point}", way.what))).collect();
        if let Err(error) = way.go(&mut prepared, &points) {
            println!("  {error:#}");
            wrong.push(way.what);
        }
        prepared.node.kill();
        // The next one's beginning may have to be made, by machines that stop nowhere.
        prepared.node.hardware.kernel_argument = None;
    }
    ensure!(wrong.is_empty(), "see above: {wrong:?}");
    Ok(())
}

/// No point is left out, and none is made up.
#[test]
fn the_ways_pass_every_failpoint() -> anyhow::Result<()> {
    let list = place::repository().join("nodeagent/src/golden/failpoints.txt");
    let known: Vec<String> = fs::read_to_string(&list)?.lines().map(str::to_owned).collect();
    let mut passed: Vec<&str> = WAYS.iter().flat_map(|way| way.points).copied().collect();
    passed.sort_unstable();
    passed.dedup();
    ensure!(passed == known, "{known:#?} are in {}, but {passed:#?} are passed", list.display());
    Ok(())
}
