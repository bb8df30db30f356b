//! The steps by which one authority takes another's place, and which one is next.

/// How far a machine's config has gone. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It knows nothing of the new authority.
    Before,
    /// It accepts the new one behind the old, which issues.
    Accepts,
    /// The new one issues, and the old one is accepted.
    Issues,
    /// The new one is alone.
    Done,
}

impl Standing {
    /// By the authority's certificates in its config, the first of which issues. None where some are there that nobody knows.
    pub fn of(config: &[String], new: Option<&String>, olds: &[String]) -> Option<Standing> {
        let known = |fingerprint: &String| Some(fingerprint) == new || olds.contains(fingerprint);
        if config.is_empty() || !config.iter().all(known) {
            return None;
        }
        Some(match new {
            Some(new) if config == [new.clone()] => Standing::Done,
            Some(new) if config.first() == Some(new) => Standing::Issues,
            Some(new) if config.contains(new) => Standing::Accepts,
            _ => Standing::Before,
        })
    }

    pub fn word(self) -> &'static str {
        match self {
            Standing::Before => "before",
            Standing::Accepts => "accepts",
            Standing::Issues => "issues",
            Standing::Done => "done",
        }
    }
}

/// What is done to a machine. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Accept,
    Issue,
    Drop,
}

impl Step {
    pub const ALL: [Step; 3] = [Step::Accept, Step::Issue, Step::Drop];

    /// Where machines stand that it is for.
    pub fn from(self) -> Standing {
        match self {
            Step::Accept => Standing::Before,
            Step::Issue => Standing::Accepts,
            Step::Drop => Standing::Issues,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Step::Accept => "accept",
            Step::Issue => "issue",
            Step::Drop => "drop",
        }
    }

    pub fn doing(self, new: &str) -> String {
        match self {
            Step::Accept => format!("accept {new} besides the one before"),
            Step::Issue => format!("issue certificates from {new}, and use them"),
            Step::Drop => format!("accept {new} alone"),
        }
    }

    pub fn done(self, new: &str) -> String {
        match self {
            Step::Accept => format!("accepts {new}"),
            Step::Issue => format!("has certificates of {new}"),
            Step::Drop => format!("accepts {new} alone"),
        }
    }
}

/// The next step of all, which the hindmost machine decides; none once all are done.
pub fn next(standings: impl IntoIterator<Item = Standing>) -> Option<Step> {
    match standings.into_iter().min()? {
        Standing::Before => Some(Step::Accept),
        Standing::Accepts => Some(Step::Issue),
        Standing::Issues => Some(Step::Drop),
        Standing::Done => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(config: &[&str], new: Option<&str>) -> Option<Standing> {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        Standing::of(&owned(config), new.map(str::to_owned).as_ref(), &owned(&["old", "older"]))
    }

    #[test]
    fn a_config_says_how_far_a_machine_is() {
        let cases: [(&[&str], Option<Standing>); 9] = [
            (&["old"], Some(Standing::Before)),
            (&["old", "older"], Some(Standing::Before)),
            (&["old", "new"], Some(Standing::Accepts)),
            (&["old", "older", "new"], Some(Standing::Accepts)),
            (&["new", "old"], Some(Standing::Issues)),
            (&["new"], Some(Standing::Done)),
            (&["foreign"], None),
            (&["new", "foreign"], None),
            (&[], None),
        ];
        for (config, expected) in cases {
            assert_eq!(standing(config, Some("new")), expected, "{config:?}");
        }
        assert_eq!(standing(&["old"], None), Some(Standing::Before));
        assert_eq!(standing(&["new"], None), None);
    }

    /// Two machines in all standings, as a table: the hindmost decides, and no step is taken before all others have come so far. Wherever it
    /// is cut, the same machines lead to the same step.
    #[test]
    fn the_hindmost_machine_decides() {
        let all = [Standing::Before, Standing::Accepts, Standing::Issues, Standing::Done];
        let mut table = String::new();
        for first in all {
            for second in all.into_iter().filter(|second| first <= *second) {
                let step = next([first, second]);
                assert_eq!(step, next([second, first]));
                let whose = step.map_or("-", |step| if step.from() == second { "both" } else { "the first" });
                let step = step.map_or("finish", Step::word);
                table.push_str(&format!("{:8} {:8} {step:7} {whose}\n", first.word(), second.word()));
            }
        }
        let expected = include_str!("golden/steps.txt");
        assert!(table == expected, "rotate/golden/steps.txt differs:\n{table}");
        assert_eq!(next([]), None);
    }

    /// Applying steps until there is none brings any machines to the end, and no machine meanwhile is more than one step from another that it
    /// has to trust: where one issues from the new authority, all accept it.
    #[test]
    fn steps_lead_to_the_end() {
        let all = [Standing::Before, Standing::Accepts, Standing::Issues, Standing::Done];
        for start in all.into_iter().flat_map(|a| all.into_iter().map(move |b| [Standing::Before, a, b])) {
            let mut machines = start;
            let mut steps = 0;
            while let Some(step) = next(machines) {
                for machine in &mut machines {
                    if *machine == step.from() {
                        *machine = all[all.iter().position(|one| one == machine).expect("one of them") + 1];
                    }
                }
                steps += 1;
                assert!(steps <= 3, "{start:?}");
            }
            assert_eq!(machines, [Standing::Done; 3], "{start:?}");
        }
    }
}
