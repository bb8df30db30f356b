//! Finds where the last lines of a file begin, from its end, without reading the rest.

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 8 * 1024;

/// The start of the last `count` lines, and how many there are: fewer, and 0, if the file has no more. A last line without end counts.
pub fn last_lines(file: &mut (impl Read + Seek), count: usize) -> io::Result<(u64, usize)> {
    let end = file.seek(SeekFrom::End(0))?;
    if count == 0 || end == 0 {
        return Ok((end, 0));
    }
    let mut block = vec![0; BLOCK as usize];
    let mut lines = 0;
    let mut from = end;
    while from > 0 {
        let to = from;
        from = to.saturating_sub(BLOCK);
        let block = &mut block[..(to - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = from + index as u64 + 1;
            // The end of the last line begins no other.
            if after == end {
                continue;
            }
            lines += 1;
            if lines == count {
                return Ok((after, lines));
            }
        }
    }
    Ok((0, lines + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(text: &str, count: usize) -> (String, usize) {
        let (offset, lines) = last_lines(&mut io::Cursor::new(text), count).unwrap();
        (text[offset as usize..].to_owned(), lines)
    }

    #[test]
    fn cases() {
        assert_eq!(tail("", 3), (String::new(), 0));
        assert_eq!(tail("a\nb\n", 0), (String::new(), 0));
        assert_eq!(tail("a\nb\nc\n", 2), ("b\nc\n".to_owned(), 2));
        assert_eq!(tail("a\nb\nc", 2), ("b\nc".to_owned(), 2));
        assert_eq!(tail("a\n", 2), ("a\n".to_owned(), 1));
        assert_eq!(tail("\n\n\n", 2), ("\n\n".to_owned(), 2));
    }

    proptest! {
        #[test]
        fn as_one_that_reads_it_all(lines in prop::collection::vec((0_usize..3000).prop_map(|length| "x".repeat(length)), 0..12), count in 0_usize..14, ended: bool) {
            let mut text = lines.join("\n");
            if ended && !text.is_empty() {
                text.push('\n');
            }
            let all: Vec<&str> = text.split_inclusive('\n').collect();
            let last = &all[all.len().saturating_sub(count)..];
            prop_assert_eq!(tail(&text, count), (last.concat(), last.len()));
        }
    }
}
