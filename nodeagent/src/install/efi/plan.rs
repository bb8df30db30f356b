//! Which boot options the firmware is to have, given those that it has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

use super::option::description;

/// What the firmware's menu calls the disk.
const DESCRIPTION: &str = "Corten";

/// The name of an option, of which one disk has several; from 1.
pub fn name(number: usize) -> String {
    if number == 1 { DESCRIPTION.to_owned() } else { format!("{DESCRIPTION} ({number})") }
}

fn is_ours(option: &[u8]) -> bool {
    let Some(text) = description(option) else { return false };
    let number = text.strip_prefix(DESCRIPTION).and_then(|rest| rest.strip_prefix(" (")?.strip_suffix(')')?.parse().ok());
    text == DESCRIPTION || number.is_some_and(|number| text == name(number))
}

/// Where options that are new to the firmware come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others: the disk was just installed to.
    First,
    /// Where the disk's own are, or before the one that the machine was started from: what somebody put before it stays there.
    WhereStarted,
}

/// The firmware's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `Boot####` by number.
    pub options: BTreeMap<u16, Vec<u8>>,
    /// `BootOrder`
    pub order: Vec<u16>,
    /// `BootCurrent`: what the machine was started from, where the firmware says so.
    pub started_from: Option<u16>,
}

/// What to change, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub write: Vec<(u16, Vec<u8>)>,
    pub order: Vec<u16>,
    pub remove: Vec<u16>,
}

/// Ours together, all others around them in the order that they have. Options of installations before give their numbers.
pub fn plan(seen: &Seen, options: &[Vec<u8>], place: Place) -> anyhow::Result<Plan> {
    let old: Vec<u16> = seen.options.iter().filter(|(_, option)| is_ours(option)).map(|(number, _)| *number).collect();
    // A number that only the order still names is not free: some firmware would bring its old option back.
    let taken: BTreeSet<u16> = seen.options.keys().chain(&seen.order).copied().collect();
    let free = (0..u16::MAX).filter(|number| !taken.contains(number));
    let numbers: Vec<u16> = old.iter().copied().chain(free).take(options.len()).collect();
    ensure!(numbers.len() == options.len(), "the firmware has no boot option left");
    let wanted = numbers.iter().zip(options);
    let write = wanted.filter(|(number, option)| seen.options.get(*number) != Some(*option)).map(|(n, option)| (*n, option.clone()));
    let is_other = |number: &&u16| !old.contains(number) && !numbers.contains(number);
    let starts_it = |number: &u16| old.contains(number) || seen.started_from == Some(*number);
    let before = match place {
        Place::First => 0,
        Place::WhereStarted => seen.order.iter().take_while(|number| !starts_it(number)).filter(is_other).count(),
    };
    let mut order: Vec<u16> = seen.order.iter().filter(is_other).copied().collect();
    order.splice(before..before, numbers.iter().copied());
    let remove = old.iter().copied().filter(|number| !numbers.contains(number)).collect();
    Ok(Plan { write: write.collect(), order, remove })
}

#[cfg(test)]
mod tests {
    use super::super::option::{BootPartition, load_option};
    use super::*;

    fn options(disk: u8) -> Vec<Vec<u8>> {
        let partition = BootPartition { number: 1, start: 2048, sectors: 2_097_152, guid: [disk; 16] };
        (1..=3).map(|number| load_option(&name(number), &partition)).collect()
    }

    fn foreign(description: &str) -> Vec<u8> {
        load_option(description, &BootPartition { number: 3, start: 1, sectors: 1, guid: [7; 16] })
    }

    fn seen(order: &[u16], started_from: Option<u16>) -> Seen {
        Seen { options: BTreeMap::new(), order: order.to_vec(), started_from }
    }

    fn apply(seen: &mut Seen, plan: Plan) {
        seen.options.extend(plan.write);
        seen.order = plan.order;
        plan.remove.iter().for_each(|number| drop(seen.options.remove(number)));
    }

    #[test]
    fn ours_come_first_and_the_others_stay() {
        let others = [(0, foreign("UiApp")), (2, foreign("UEFI Misc Device")), (5, foreign("Cortenish"))];
        let mut seen = Seen { options: others.clone().into(), order: vec![2, 0, 5, 1], started_from: None };
        let first = plan(&seen, &options(1), Place::First).unwrap();
        assert_eq!((first.order.clone(), first.remove.as_slice()), (vec![3, 4, 6, 2, 0, 5, 1], [].as_slice()));
        apply(&mut seen, first);
        assert_eq!(
            plan(&seen, &options(1), Place::First).unwrap(),
            Plan { write: Vec::new(), order: seen.order.clone(), remove: Vec::new() },
            "settled"
        );
        // The firmware put its own ones in front since, and the machine is installed anew.
        seen.order.rotate_right(2);
        let second = plan(&seen, &options(2), Place::First).unwrap();
        let numbers: Vec<u16> = second.write.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, second.order.clone()), (vec![3, 4, 6], vec![3, 4, 6, 5, 1, 2, 0]));
        apply(&mut seen, second);
        for (number, option) in others {
            assert_eq!(seen.options[&number], option);
        }
    }

    #[test]
    fn surplus_ones_of_ours_go() {
        let seen = Seen {
            options: (0..5).map(|number| (number, foreign(&name(usize::from(number) + 1)))).collect(),
            ..seen(&[4, 3, 2, 1, 0], None)
        };
        let plan = plan(&seen, &options(1), Place::First).unwrap();
        assert_eq!((plan.order, plan.remove), (vec![0, 1, 2], vec![3, 4]));
    }

    #[test]
    fn firmware_that_is_full_is_left_alone() {
        let seen = Seen { options: (0..u16::MAX).map(|number| (number, foreign("other"))).collect(), ..self::seen(&[], None) };
        assert_eq!(plan(&seen, &options(1), Place::First).unwrap_err().to_string(), "the firmware has no boot option left");
        assert!(plan(&self::seen(&[], None), &options(1), Place::First).is_ok());
    }

    #[test]
    fn what_somebody_put_before_the_disk_stays_before_it() {
        let order = |options: BTreeMap<u16, Vec<u8>>, order: &[u16], started_from| {
            let seen = Seen { options, ..seen(order, started_from) };
            plan(&seen, &self::options(1), Place::WhereStarted).unwrap().order
        };
        let others = || BTreeMap::from([(0, foreign("PXE")), (1, foreign("UEFI Misc Device")), (2, foreign("UiApp"))]);
        assert_eq!(order(others(), &[0, 1, 2], Some(1)), [0, 3, 4, 5, 1, 2]);
        assert_eq!(order(others(), &[0, 1, 2], None), [0, 1, 2, 3, 4, 5], "started from what the order does not have");
        let ours = others().into_iter().chain([(7, foreign("Corten")), (4, foreign("Corten (2)"))]).collect();
        assert_eq!(order(ours, &[0, 7, 2, 4, 1], Some(1)), [0, 4, 7, 3, 2, 1]);
        assert!(!is_ours(&foreign("Corten (02)")) && !is_ours(&foreign("Corten (")) && is_ours(&foreign("Corten (12)")));
    }
}
