//! What is read of messages without taking them apart (RFC 1035, 4.1): they are passed on as they came, with all that the resolver knows nothing of.

/// Of each message.
pub const HEADER: usize = 12;

const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// How good an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It says what there is, or that there is nothing.
    Answer,
    /// The server could not or would not: another one may.
    Failure,
}

pub fn id(message: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(..2)?.try_into().ok()?))
}

pub fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut copy = message.to_vec();
    if let Some(place) = copy.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    copy
}

pub fn is_response(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & RESPONSE != 0)
}

pub fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// The only question; none where there is not exactly one, or where it is written in pointers.
pub fn question(message: &[u8]) -> Option<&[u8]> {
    let count = u16::from_be_bytes(message.get(4..6)?.try_into().ok()?);
    let mut end = HEADER;
    loop {
        let length = usize::from(*message.get(end)?);
        end += 1 + length;
        match length {
            0 => break,
            1..=63 => {}
            _ => return None,
        }
    }
    // Its type and class.
    message.get(HEADER..end + 4).filter(|_| count == 1)
}

/// Whether this is a response to that question, asked under this number. A server may write the name's letters in another case.
pub fn answers(response: &[u8], id: u16, asked: &[u8]) -> bool {
    self::id(response) == Some(id)
        && is_response(response)
        && question(response).is_some_and(|question| question.eq_ignore_ascii_case(asked))
}

/// By its response code.
pub fn worth(response: &[u8]) -> Worth {
    const NO_ERROR: u8 = 0;
    const NO_SUCH_NAME: u8 = 3;
    match response.get(3).map(|flags| flags & 0x0f) {
        Some(NO_ERROR | NO_SUCH_NAME) => Worth::Answer,
        _ => Worth::Failure,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKED: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x02bc\x00\x00\x01\x00\x01more";

    #[test]
    fn a_response_is_to_its_question_and_number() {
        let asked = question(ASKED).unwrap();
        assert_eq!(asked, b"\x01a\x02bc\x00\x00\x01\x00\x01");
        let response = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut response = ASKED.to_vec();
            response[2] = 0x81;
            change(&mut response);
            answers(&response, 0x1234, asked)
        };
        assert!(response(&|_| {}));
        assert!(response(&|response| response[13] = b'A'), "in another case");
        assert!(!response(&|response| response[0] = 0), "another number");
        assert!(!response(&|response| response[2] = 0x01), "a question");
        assert!(!response(&|response| response[13] = b'x'), "another name");
        assert!(!response(&|response| response[18] = 28), "another type");
        assert!(!response(&|response| response[5] = 2), "two questions");
        assert!(!response(&|response| response.truncate(20)), "cut short");
        assert_eq!(id(&with_id(ASKED, 7)), Some(7));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64), id in any::<u16>()) {
            question(&bytes);
            answers(&bytes, id, b"");
            worth(&bytes);
            prop_assert_eq!(with_id(&bytes, id).len(), bytes.len());
        }
    }
}
