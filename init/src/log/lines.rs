//! Cuts a stream of bytes into lines and puts a time before each.

/// A longer line is cut here.
const LONGEST: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Lines {
    /// The line that has no end yet.
    begun: Vec<u8>,
}

impl Lines {
    /// Takes bytes and appends each complete line to `text`.
    pub fn push(&mut self, bytes: &[u8], stamp: &str, text: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece.strip_suffix(b"\n").unwrap_or(piece);
            while self.begun.len() + rest.len() > LONGEST {
                let (head, tail) = rest.split_at(LONGEST.saturating_sub(self.begun.len()).min(rest.len()));
                self.begun.extend_from_slice(head);
                self.end(stamp, text);
                rest = tail;
            }
            self.begun.extend_from_slice(rest);
            if piece.ends_with(b"\n") {
                self.end(stamp, text);
            }
        }
    }

    /// Ends the last line, if one was begun.
    pub fn finish(&mut self, stamp: &str, text: &mut Vec<u8>) {
        if !self.begun.is_empty() {
            self.end(stamp, text);
        }
    }

    fn end(&mut self, stamp: &str, text: &mut Vec<u8>) {
        text.extend_from_slice(stamp.as_bytes());
        text.push(b' ');
        text.append(&mut self.begun);
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(chunks: &[&[u8]]) -> String {
        let (mut lines, mut text) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, "T", &mut text);
        }
        lines.finish("T", &mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    #[test]
    fn lines_are_stamped() {
        assert_eq!(all(&[b"a\n\nb", b"c\nd"]), "T a\nT \nT bc\nT d\n");
        assert_eq!(all(&[]), "");
    }

    #[test]
    fn long_lines_are_cut() {
        let text = all(&[&[b'x'; LONGEST * 2 + 5], b"\n"]);
        assert_eq!(text.lines().map(|line| line.len() - 2).collect::<Vec<_>>(), [LONGEST, LONGEST, 5]);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(text in "[a-c\n]{0,200}", cuts in prop::collection::vec(0_usize..200, 0..5)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(all(&chunks), all(&[text.as_bytes()]));
        }
    }
}
