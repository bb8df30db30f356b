//! Which boot options the firmware is to have, given those that it has.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

use super::option::description;

/// Of the options of one disk. As many as an upgrade has tries.
pub const DESCRIPTIONS: [&str; 3] = ["Corten", "Corten (2)", "Corten (3)"];

/// The firmware's variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `Boot####` by number.
    pub options: BTreeMap<u16, Vec<u8>>,
    /// `BootOrder`
    pub order: Vec<u16>,
}

/// What to change, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub write: Vec<(u16, Vec<u8>)>,
    pub order: Vec<u16>,
    pub remove: Vec<u16>,
}

/// Ours first, all others behind them in the order that they have. Options of installations before give their numbers.
pub fn plan(seen: &Seen, options: &[Vec<u8>]) -> anyhow::Result<Plan> {
    let ours = |option: &[u8]| description(option).is_some_and(|text| DESCRIPTIONS.contains(&text.as_str()));
    let old: Vec<u16> = seen.options.iter().filter(|(_, option)| ours(option)).map(|(number, _)| *number).collect();
    // A number that only the order still names is not free: some firmware would bring its old option back.
    let taken: BTreeSet<u16> = seen.options.keys().chain(&seen.order).copied().collect();
    let free = (0..u16::MAX).filter(|number| !taken.contains(number));
    let numbers: Vec<u16> = old.iter().copied().chain(free).take(options.len()).collect();
    ensure!(numbers.len() == options.len(), "the firmware has no boot option left");
    let wanted = numbers.iter().zip(options);
    let write = wanted.filter(|(number, option)| seen.options.get(*number) != Some(*option)).map(|(n, option)| (*n, option.clone()));
    let others = seen.order.iter().copied().filter(|number| !old.contains(number) && !numbers.contains(number));
    Ok(Plan {
        write: write.collect(),
        order: numbers.iter().copied().chain(others).collect(),
        remove: old.into_iter().filter(|number| !numbers.contains(number)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::option::{BootPartition, load_option};
    use super::*;

    fn options(disk: u8) -> Vec<Vec<u8>> {
        let partition = BootPartition { number: 1, start: 2048, sectors: 2_097_152, guid: [disk; 16] };
        DESCRIPTIONS.iter().map(|description| load_option(description, &partition)).collect()
    }

    fn foreign(description: &str) -> Vec<u8> {
        load_option(description, &BootPartition { number: 3, start: 1, sectors: 1, guid: [7; 16] })
    }

    fn apply(seen: &mut Seen, plan: Plan) {
        seen.options.extend(plan.write);
        seen.order = plan.order;
        plan.remove.iter().for_each(|number| drop(seen.options.remove(number)));
    }

    #[test]
    fn ours_come_first_and_the_others_stay() {
        let others = [(0, foreign("UiApp")), (2, foreign("UEFI Misc Device")), (5, foreign("Cortenish"))];
        let mut seen = Seen { options: others.clone().into(), order: vec![2, 0, 5, 1] };
        let first = plan(&seen, &options(1)).unwrap();
        assert_eq!((first.order.clone(), first.remove.as_slice()), (vec![3, 4, 6, 2, 0, 5, 1], [].as_slice()));
        apply(&mut seen, first);
        assert_eq!(plan(&seen, &options(1)).unwrap(), Plan { write: Vec::new(), order: seen.order.clone(), remove: Vec::new() }, "settled");
        // The firmware put its own ones in front since, and the machine is installed anew.
        seen.order.rotate_right(2);
        let second = plan(&seen, &options(2)).unwrap();
        let numbers: Vec<u16> = second.write.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, second.order.clone()), (vec![3, 4, 6], vec![3, 4, 6, 5, 1, 2, 0]));
        apply(&mut seen, second);
        for (number, option) in others {
            assert_eq!(seen.options[&number], option);
        }
    }

    #[test]
    fn surplus_ones_of_ours_go() {
        let seen = Seen { options: (0..5).map(|number| (number, foreign("Corten"))).collect(), order: vec![4, 3, 2, 1, 0] };
        let plan = plan(&seen, &options(1)).unwrap();
        assert_eq!((plan.order, plan.remove), (vec![0, 1, 2], vec![3, 4]));
    }

    #[test]
    fn firmware_that_is_full_is_left_alone() {
        let seen = Seen { options: (0..u16::MAX).map(|number| (number, foreign("other"))).collect(), order: Vec::new() };
        assert_eq!(plan(&seen, &options(1)).unwrap_err().to_string(), "the firmware has no boot option left");
        assert!(plan(&Seen { options: BTreeMap::new(), order: Vec::new() }, &options(1)).is_ok());
    }
}
