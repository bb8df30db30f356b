//! The other side of [`apply`](super::apply).

use std::io;

use super::references::{BYTES, Shifts, displacement, places};
use super::sections::{Copy, limit, put_number, put_signed};
use super::{FORM, find};

/// Of zstd. The sections are mostly zeros and codes, of which higher levels make less in hardly more time.
const LEAST_LEVEL: i32 = 15;

#[derive(Debug, Default)]
struct Sections {
    instructions: Vec<u8>,
    differences: Vec<u8>,
    codes: Vec<u8>,
    shifts: Vec<u8>,
    literals: Vec<u8>,
}

/// None where the sections would be longer than they may be: such a chunk is not like the base at all. `level` is zstd's, and
/// at least [`LEAST_LEVEL`].
pub fn make(base: &[u8], bytes: &[u8], level: i32) -> io::Result<Option<Vec<u8>>> {
    let payload = sections(base, bytes, &find::copies(base, bytes)).join();
    if payload.len() > limit(bytes.len()) {
        return Ok(None);
    }
    let mut data = vec![FORM];
    data.extend(zstd::bulk::compress(&payload, level.max(LEAST_LEVEL))?);
    Ok(Some(data))
}

fn sections(base: &[u8], bytes: &[u8], copies: &[Copy]) -> Sections {
    let mut sections = Sections::default();
    let mut known = Shifts::of(copies);
    let (mut old, mut new) = (0, 0);
    for copy in copies {
        sections.literals.extend_from_slice(&bytes[new..copy.new]);
        // Chunk and base are shorter than 2 GiB.
        put_number(&mut sections.instructions, (copy.new - new) as u32);
        put_number(&mut sections.instructions, copy.length as u32);
        put_signed(&mut sections.instructions, (copy.old as i64 - old as i64) as i32);
        let (from, to) = (&base[copy.old..][..copy.length], &bytes[copy.new..][..copy.length]);
        let mut done = 0;
        for place in places(from) {
            sections.add(&from[done..place], &to[done..place]);
            let (old, new) = (displacement(from, place), displacement(to, place));
            known.write(&copy.site(place), old, new.wrapping_sub(old), &mut sections.codes, &mut sections.shifts);
            done = place + BYTES;
        }
        sections.add(&from[done..], &to[done..]);
        (old, new) = (copy.old + copy.length, copy.new + copy.length);
    }
    sections.literals.extend_from_slice(&bytes[new..]);
    sections
}

impl Sections {
    fn add(&mut self, from: &[u8], to: &[u8]) {
        self.differences.extend(from.iter().zip(to).map(|(from, to)| to.wrapping_sub(*from)));
    }

    fn join(&self) -> Vec<u8> {
        let sections = [&self.instructions, &self.differences, &self.codes, &self.shifts, &self.literals];
        let mut payload = Vec::new();
        for section in sections {
            put_number(&mut payload, section.len() as u32);
        }
        sections.into_iter().for_each(|section| payload.extend_from_slice(section));
        payload
    }
}
