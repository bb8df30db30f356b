//! Answers that need nobody else: names of the cluster's machines, and complaints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType};

/// A machine that gets another address keeps its name.
const LIFETIME_SECONDS: u32 = 30;

/// What to do about a message.
#[derive(Debug)]
pub enum Judgement {
    /// This is the answer.
    Answer(Box<Message>),
    /// Somebody else has to be asked, and the answer may be this long where it goes by UDP.
    PassOn { longest: usize },
    /// It is no question.
    Ignore,
}

/// Only names without a dot are answered for: who may name a machine could otherwise take over any name of the world for all machines.
pub fn judge(question: &[u8], machines: &BTreeMap<String, Vec<IpAddr>>) -> Judgement {
    if question.len() < super::message::HEADER || super::message::is_response(question) {
        return Judgement::Ignore;
    }
    let Ok(asked) = Message::from_vec(question) else {
        let id = super::message::id(question).unwrap_or_default();
        return answer(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
    };
    if asked.metadata.op_code != OpCode::Query {
        return answer(failure(&asked, ResponseCode::NotImp));
    }
    let [query] = asked.queries.as_slice() else { return answer(failure(&asked, ResponseCode::FormErr)) };
    let name = query.name.to_lowercase();
    let known = (name.num_labels() == 1).then(|| machines.get(name.to_ascii().trim_end_matches('.'))).flatten();
    let Some(addresses) = known.filter(|_| query.query_class == DNSClass::IN) else {
        return Judgement::PassOn { longest: usize::from(asked.max_payload()) };
    };
    let mut response = failure(&asked, ResponseCode::NoError);
    response.metadata.authoritative = true;
    for address in addresses {
        let data = match (address, query.query_type) {
            (IpAddr::V4(address), RecordType::A | RecordType::ANY) => RData::A(A(*address)),
            (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(*address)),
            _ => continue,
        };
        response.add_answer(Record::from_rdata(query.name.clone(), LIFETIME_SECONDS, data));
    }
    answer(response)
}

fn answer(message: Message) -> Judgement {
    Judgement::Answer(Box::new(message))
}

/// A response to this question that says nothing but a code.
pub fn failure(asked: &Message, code: ResponseCode) -> Message {
    let mut response = Message::new(asked.metadata.id, MessageType::Response, asked.metadata.op_code);
    response.metadata.recursion_desired = asked.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(asked.queries.iter().cloned());
    response
}

/// The same where the question is only bytes, and `truncated` tells the asker to come back by TCP.
pub fn refusal(question: &[u8], code: ResponseCode, truncated: bool) -> Option<Vec<u8>> {
    let mut response = failure(&Message::from_vec(question).ok()?, code);
    response.metadata.truncation = truncated;
    response.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::Name;

    use super::*;

    fn machines() -> BTreeMap<String, Vec<IpAddr>> {
        BTreeMap::from([
            ("cp-1".to_owned(), vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()]),
            ("registry.example.com".to_owned(), vec!["192.0.2.66".parse().unwrap()]),
        ])
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.metadata.recursion_desired = true;
        message
    }

    #[test]
    fn machines_have_names() {
        for (name, kind, expected) in [
            ("cp-1.", RecordType::A, vec!["192.0.2.10"]),
            ("CP-1.", RecordType::AAAA, vec!["2001:db8::10"]),
            ("cp-1.", RecordType::ANY, vec!["192.0.2.10", "2001:db8::10"]),
            ("cp-1.", RecordType::MX, vec![]),
        ] {
            let asked = question(name, kind);
            let Judgement::Answer(response) = judge(&asked.to_vec().unwrap(), &machines()) else { panic!("{name} is known") };
            let found: Vec<String> = response.answers.iter().map(|record| record.data.to_string()).collect();
            assert_eq!(found, expected, "{name} {kind}");
            assert_eq!(response.metadata.response_code, ResponseCode::NoError);
            assert!(super::super::message::answers(
                &response.to_vec().unwrap(),
                asked.metadata.id,
                super::super::message::question(&asked.to_vec().unwrap()).unwrap()
            ));
        }
    }

    #[test]
    fn other_names_are_somebody_elses_even_if_a_machine_is_called_so() {
        for name in ["registry.example.com.", "cp-1.example.com.", "cp-2.", "."] {
            let passed = judge(&question(name, RecordType::A).to_vec().unwrap(), &machines());
            assert!(matches!(passed, Judgement::PassOn { longest: 512 }), "{name}: {passed:?}");
        }
    }

    #[test]
    fn what_is_no_question_gets_a_complaint_or_nothing() {
        let code = |bytes: &[u8]| match judge(bytes, &machines()) {
            Judgement::Answer(response) => Some(response.metadata.response_code),
            _ => None,
        };
        let good = question("cp-1.", RecordType::A).to_vec().unwrap();
        let mut response = good.clone();
        response[2] |= 0x80;
        assert!(matches!(judge(&response, &machines()), Judgement::Ignore));
        assert!(matches!(judge(&good[..11], &machines()), Judgement::Ignore));
        assert_eq!(code(&good[..16]), Some(ResponseCode::FormErr));
        let mut update = good.clone();
        update[2] = 5 << 3;
        assert_eq!(code(&update), Some(ResponseCode::NotImp));
        assert_eq!(code(&[&[0, 1, 1, 0][..], &[0; 8]].concat()), Some(ResponseCode::FormErr), "no question");
    }
}
