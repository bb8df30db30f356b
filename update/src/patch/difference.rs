//! A patch as differences: stretches that are copied from the base with what was added to each byte, and bytes that come from nowhere. After
//! another build that is much less than LZ77 makes of it, since nearly all that changed are references to what moved, and where something
//! moved to is guessed ([`references`]). docs/update-file.md has the bytes.

mod find;
mod make;
mod references;
mod sections;

use references::{Shifts, places};
use sections::{Section, Sections, copies};

pub(super) use find::masked;
pub(super) use make::make;

/// First byte of such a patch. A zstd frame begins with 0x28, one to be skipped with 0x50 to 0x5f.
pub(super) const FORM: u8 = 2;

/// Why a patch makes no chunk.
#[derive(Debug, thiserror::Error)]
pub enum BadDifference {
    #[error("decompressing {expected} bytes at most with zstd")]
    Zstd {
        expected: usize,
        #[source]
        source: std::io::Error,
    },
    #[error("its {section} end too early")]
    CutShort { section: &'static str },
    #[error("{bytes} bytes follow its {section}")]
    Trailing { section: &'static str, bytes: usize },
    #[error("its {section} have a number that is too large")]
    Number { section: &'static str },
    #[error("it copies {length} bytes from {offset} of a base of {base}")]
    Copy { offset: i64, length: usize, base: usize },
    #[error("it makes more than the chunk's {size} bytes")]
    TooMuch { size: usize },
}

/// The bytes that a patch makes of a base, as many as the chunk has. Memory: what is made, at most twice as much of decompressed patch, and
/// some 30 bytes for each reference.
pub(super) fn apply(base: &[u8], data: &[u8], size: usize) -> Result<Vec<u8>, BadDifference> {
    let payload = sections::unpack(data, size)?;
    let Sections { mut instructions, mut differences, mut codes, mut shifts, mut literals } = Sections::split(&payload)?;
    let copies = copies(&mut instructions, base.len(), size)?;
    let mut known = Shifts::of(&copies);
    let mut bytes = Vec::with_capacity(size);
    for copy in copies {
        bytes.extend_from_slice(literals.take(copy.new - bytes.len())?);
        let from = &base[copy.old..][..copy.length];
        let mut done = 0;
        for place in places(from) {
            add(&mut bytes, &from[done..place], &mut differences)?;
            let site = copy.site(place);
            let old = references::displacement(from, place);
            let moved = known.read(&site, old, &mut codes, &mut shifts)?;
            bytes.extend_from_slice(&old.wrapping_add(moved).to_le_bytes());
            done = place + references::BYTES;
        }
        add(&mut bytes, &from[done..], &mut differences)?;
    }
    bytes.extend_from_slice(literals.take(size - bytes.len())?);
    for section in [instructions, differences, codes, shifts, literals] {
        section.end()?;
    }
    Ok(bytes)
}

fn add(bytes: &mut Vec<u8>, from: &[u8], differences: &mut Section) -> Result<(), BadDifference> {
    let added = differences.take(from.len())?;
    bytes.extend(from.iter().zip(added).map(|(byte, added)| byte.wrapping_add(*added)));
    Ok(())
}

#[cfg(test)]
mod tests;
