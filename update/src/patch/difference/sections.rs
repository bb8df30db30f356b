//! The five sections of a patch, each of one sort of bytes so that it compresses well, and the numbers in them.

use super::{BadDifference, FORM};

/// A stretch that is taken from the base; between two of them are literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// From the beginning of the base.
    pub old: usize,
    /// From the beginning of the chunk.
    pub new: usize,
    pub length: usize,
}

/// What a patch consists of, in this order behind their lengths.
#[derive(Debug)]
pub struct Sections<'a> {
    /// For each copy: how many literals come before it, its length, and how far it is from the end of the copy before in the base.
    pub instructions: Section<'a>,
    /// What is added to each copied byte that is no reference.
    pub differences: Section<'a>,
    /// How each reference moved.
    pub codes: Section<'a>,
    /// Moves for which there is no code.
    pub shifts: Section<'a>,
    pub literals: Section<'a>,
}

/// Names for people, in the order of the bytes.
pub const NAMES: [&str; 5] = ["instructions", "differences", "codes", "shifts", "literals"];

/// What is left to read of a section.
#[derive(Debug)]
pub struct Section<'a> {
    name: &'static str,
    bytes: &'a [u8],
}

/// Bytes of all sections for a chunk of this size: no more are decompressed.
pub fn limit(size: usize) -> usize {
    2 * size + 64
}

/// Decompresses what follows the first byte.
pub fn unpack(data: &[u8], size: usize) -> Result<Vec<u8>, BadDifference> {
    let expected = limit(size);
    let frame = data.strip_prefix(&[FORM]).unwrap_or(data);
    zstd::bulk::decompress(frame, expected).map_err(|source| BadDifference::Zstd { expected, source })
}

impl<'a> Sections<'a> {
    pub fn split(payload: &'a [u8]) -> Result<Sections<'a>, BadDifference> {
        let mut rest = Section { name: "lengths", bytes: payload };
        let mut lengths = [0; NAMES.len()];
        for length in &mut lengths {
            *length = rest.number()?;
        }
        let mut each = NAMES.iter().zip(lengths).map(|(name, length)| Ok(Section { name, bytes: rest.take(length)? }));
        let mut next = || each.next().unwrap_or(Err(BadDifference::CutShort { section: "lengths" }));
        let sections = Sections { instructions: next()?, differences: next()?, codes: next()?, shifts: next()?, literals: next()? };
        rest.name = "sections";
        rest.end()?;
        Ok(sections)
    }
}

impl<'a> Section<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], BadDifference> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(BadDifference::CutShort { section: self.name })?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, BadDifference> {
        Ok(self.take(1)?[0])
    }

    /// LEB128 of at most 32 bits.
    pub fn number(&mut self) -> Result<usize, BadDifference> {
        let mut number = 0_u64;
        for at in 0..5 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return u32::try_from(number).map(|number| number as usize).map_err(|_| BadDifference::Number { section: self.name });
            }
        }
        Err(BadDifference::Number { section: self.name })
    }

    /// The same for numbers of both signs, which come as 0, -1, 1, -2...
    pub fn signed(&mut self) -> Result<i32, BadDifference> {
        let number = self.number()? as u32;
        Ok((number >> 1) as i32 ^ -((number & 1) as i32))
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn end(&self) -> Result<(), BadDifference> {
        match self.bytes.len() {
            0 => Ok(()),
            bytes => Err(BadDifference::Trailing { section: self.name, bytes }),
        }
    }
}

pub fn put_number(out: &mut Vec<u8>, number: u32) {
    let mut rest = number;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn put_signed(out: &mut Vec<u8>, number: i32) {
    put_number(out, ((number << 1) ^ (number >> 31)) as u32);
}

/// All copies, each within the base and the chunk. Every one takes bytes, so that there are no more than the chunk has.
pub fn copies(instructions: &mut Section, base: usize, size: usize) -> Result<Vec<Copy>, BadDifference> {
    let mut copies = Vec::new();
    let (mut old, mut new) = (0_i64, 0_usize);
    while !instructions.is_empty() {
        new += instructions.number()?;
        let length = instructions.number()?;
        let offset = old + i64::from(instructions.signed()?);
        if length == 0 || new.checked_add(length).is_none_or(|end| end > size) {
            return Err(BadDifference::TooMuch { size });
        }
        let begin = usize::try_from(offset).ok().filter(|begin| begin.checked_add(length).is_some_and(|end| end <= base));
        let Some(begin) = begin else { return Err(BadDifference::Copy { offset, length, base }) };
        copies.push(Copy { old: begin, new, length });
        new += length;
        old = (begin + length) as i64;
    }
    Ok(copies)
}
