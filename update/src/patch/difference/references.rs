//! References in x86-64 code: calls, jumps, and addresses relative to the instruction. When a function grows, all that lead across it change by
//! as much, and each reference to one place changes as the others do. So a patch says for each how it changed by what is known: where its
//! copies went, and where the references before it led. Nothing depends on what is taken for a reference, but for the size of the patch.

use std::collections::BTreeMap;

use super::BadDifference;
use super::sections::{Copy, Section, put_signed};

/// Of a displacement.
pub const BYTES: usize = 4;
/// Displacements beyond are none of a program's: their place says nothing about what moved.
const FARTHEST: i32 = 1 << 27;

/// Where displacements stand in what was copied, from front to back and never overlapping.
pub fn places(old: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at + 1 + BYTES <= old.len() {
            let place = match old[at] {
                // call, jmp
                0xe8 | 0xe9 => Some(at + 1),
                // j<condition>
                0x0f if old[at + 1] & 0xf0 == 0x80 => Some(at + 2),
                // ModRM without base: relative to the instruction, of an opcode that takes one often
                byte if byte & 0xc7 == 0x05 && at > 0 && takes_address(old[at - 1]) => Some(at + 1),
                _ => None,
            };
            match place.filter(|place| place + BYTES <= old.len()) {
                Some(place) => {
                    at = place + BYTES;
                    return Some(place);
                }
                None => at += 1,
            }
        }
        None
    })
}

/// Last bytes of opcodes that compilers use with addresses: mov, lea, cmp, arithmetic, SSE moves, and calls through memory.
fn takes_address(opcode: u8) -> bool {
    matches!(
        opcode,
        0x03 | 0x10
            | 0x11
            | 0x28
            | 0x29
            | 0x2b
            | 0x33
            | 0x38
            | 0x39
            | 0x3a
            | 0x3b
            | 0x54
            | 0x57
            | 0x58
            | 0x59
            | 0x63
            | 0x6f
            | 0x7f
            | 0x80
            | 0x81
            | 0x83
            | 0x85
            | 0x88
            | 0x89
            | 0x8a
            | 0x8b
            | 0x8d
            | 0xb6
            | 0xb7
            | 0xc6
            | 0xc7
            | 0xeb
            | 0xef
            | 0xff
    )
}

pub fn displacement(bytes: &[u8], place: usize) -> i32 {
    let mut four = [0; BYTES];
    four.copy_from_slice(&bytes[place..][..BYTES]);
    i32::from_le_bytes(four)
}

/// A place of a displacement that is copied.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    /// Where the displacement ends in the base: what it counts from.
    end: i64,
    /// How much farther that is in the chunk.
    shift: i64,
}

impl Copy {
    pub fn site(&self, place: usize) -> Site {
        Site { end: (self.old + place + BYTES) as i64, shift: self.new as i64 - self.old as i64 }
    }
}

/// How far places of the base are moved, as far as the patch has told.
#[derive(Debug)]
pub struct Shifts {
    /// By place in the base, which may be outside of it; each holds up to the next one.
    known: BTreeMap<i64, i64>,
    /// Those that were not guessed, the last one at the end.
    recent: Vec<i64>,
}

/// Codes: the guess is right; as recent ones, the last first; not changed at all; the difference stands among the shifts.
const GUESSED: u8 = 0;
const FIRST_RECENT: u8 = 1;
const UNCHANGED: u8 = 254;
const OTHER: u8 = 255;
const MOST_RECENT: usize = (UNCHANGED - FIRST_RECENT) as usize;

impl Shifts {
    pub fn of(copies: &[Copy]) -> Shifts {
        let known = copies.iter().map(|copy| (copy.old as i64, copy.new as i64 - copy.old as i64)).collect();
        Shifts { known, recent: Vec::new() }
    }

    /// By how much a displacement changes.
    pub fn read(&mut self, site: &Site, old: i32, codes: &mut Section, shifts: &mut Section) -> Result<i32, BadDifference> {
        let target = site.end + i64::from(old);
        let shift = match codes.byte()? {
            GUESSED => self.guess(target),
            UNCHANGED => site.shift,
            OTHER => i64::from(shifts.signed()?) + site.shift,
            recent => {
                let back = usize::from(recent - FIRST_RECENT);
                let at = self.recent.len().checked_sub(back + 1).ok_or(BadDifference::Number { section: "codes" })?;
                self.recent[at]
            }
        };
        self.learn(target, old, shift);
        // A displacement is calculated in 32 bits.
        Ok((shift - site.shift) as i32)
    }

    /// The same from the other side.
    pub fn write(&mut self, site: &Site, old: i32, changed: i32, codes: &mut Vec<u8>, shifts: &mut Vec<u8>) {
        let target = site.end + i64::from(old);
        let shift = i64::from(changed) + site.shift;
        let recent = self.recent.iter().rev().position(|recent| *recent == shift);
        codes.push(match recent {
            _ if self.guess(target) == shift => GUESSED,
            // At most MOST_RECENT of them.
            Some(back) => FIRST_RECENT + back as u8,
            None if changed == 0 => UNCHANGED,
            None => {
                put_signed(shifts, changed);
                OTHER
            }
        });
        self.learn(target, old, shift);
    }

    fn guess(&self, target: i64) -> i64 {
        self.known.range(..=target).next_back().map_or(0, |(_, shift)| *shift)
    }

    fn learn(&mut self, target: i64, old: i32, shift: i64) {
        if old.checked_abs().is_none_or(|far| far > FARTHEST) || self.guess(target) == shift {
            return;
        }
        self.known.insert(target, shift);
        match self.recent.iter().rposition(|recent| *recent == shift) {
            Some(at) => {
                self.recent.remove(at);
            }
            None if self.recent.len() == MOST_RECENT => {
                self.recent.remove(0);
            }
            None => {}
        }
        self.recent.push(shift);
    }
}
