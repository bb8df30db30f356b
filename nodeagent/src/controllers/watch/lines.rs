//! Lines of a stream that comes in pieces, packed by gzip or not. An API server packs each event by itself (a member of RFC 1952), so that it can be read at once.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Far more than an event has: etcd takes no object of more than 1.5 MiB.
const LONGEST: usize = 8 << 20;
/// A few packed bytes may be many: so many are looked at together.
const PART: usize = 4 << 10;

#[derive(Debug)]
pub struct Lines {
    /// For what is packed.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    /// A line's beginning.
    rest: Vec<u8>,
}

impl Lines {
    pub fn new(is_packed: bool) -> Lines {
        Lines { decoder: is_packed.then(|| MultiGzDecoder::new(Vec::new())), rest: Vec::new() }
    }

    /// The lines that are whole with this piece, without their ends.
    pub fn take(&mut self, piece: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        for part in piece.chunks(PART) {
            let known = self.rest.len();
            match &mut self.decoder {
                None => self.rest.extend_from_slice(part),
                Some(decoder) => {
                    decoder.write_all(part)?;
                    decoder.flush()?;
                    self.rest.append(decoder.get_mut());
                }
            }
            if let Some(end) = self.rest[known..].iter().rposition(|byte| *byte == b'\n') {
                let begun = self.rest.split_off(known + end + 1);
                let whole = std::mem::replace(&mut self.rest, begun);
                lines.extend(whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
            }
            if self.rest.len() > LONGEST {
                return Err(io::Error::other(format!("a line of more than {LONGEST} bytes")));
            }
        }
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    const EVENTS: [&str; 3] = [r#"{"type":"ADDED"}"#, r#"{"type":"MODIFIED"}"#, r#"{"type":"DELETED"}"#];

    fn stream(is_packed: bool) -> Vec<u8> {
        let lines = EVENTS.map(|event| format!("{event}\n").into_bytes());
        lines.into_iter().flat_map(|line| if is_packed { packed(&line) } else { line }).collect()
    }

    #[test]
    fn each_line_is_told_once_it_is_whole_however_it_comes() {
        for is_packed in [false, true] {
            let whole = stream(is_packed);
            for cut in 0..whole.len() {
                let mut lines = Lines::new(is_packed);
                let mut told = lines.take(&whole[..cut]).unwrap();
                told.extend(lines.take(&whole[cut..]).unwrap());
                assert_eq!(told, EVENTS.map(|event| event.as_bytes().to_vec()), "packed: {is_packed}, cut at {cut}");
            }
            let mut lines = Lines::new(is_packed);
            let told: Vec<Vec<u8>> = whole.iter().flat_map(|byte| lines.take(&[*byte]).unwrap()).collect();
            assert_eq!(told.len(), EVENTS.len());
            // An event is not kept back until the next one comes.
            let first = if is_packed { packed(format!("{}\n", EVENTS[0]).as_bytes()) } else { format!("{}\n", EVENTS[0]).into_bytes() };
            assert_eq!(Lines::new(is_packed).take(&first).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_is_not_packed_as_it_says_is_refused() {
        Lines::new(true).take(&stream(false)).unwrap_err();
        let mut damaged = stream(true);
        // Its checksum is looked at when the next one begins.
        let first = packed(format!("{}\n", EVENTS[0]).as_bytes()).len();
        damaged[first - 5] ^= 1;
        Lines::new(true).take(&damaged).unwrap_err();
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let endless = vec![b' '; 3 * LONGEST];
        for (is_packed, piece) in [(true, packed(&endless)), (false, endless)] {
            let mut lines = Lines::new(is_packed);
            let said = lines.take(&piece).unwrap_err().to_string();
            assert_eq!(said, format!("a line of more than {LONGEST} bytes"));
            // What a part unpacks to comes on top: at most a thousand times as much.
            assert!(lines.rest.capacity() <= 4 * LONGEST, "{}", lines.rest.capacity());
        }
    }
}
