//! One connection: bytes in, requests out, answers in the order of the requests.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use machine::protocol::{self, Event, MAX_FRAME_BYTES, Request, Response};
use rustix::event::PollFlags;

/// Read in one turn of the event loop.
const BYTES_A_TURN: usize = 64 * 1024;
/// More than this not taken by the client: it is stalled, and dropped.
const MOST_UNSENT_BYTES: usize = 4 * MAX_FRAME_BYTES;
/// With so many requests unanswered, no more are read.
const MOST_UNANSWERED: usize = 64;

#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// Requests in order, with the answer's bytes once there are some.
    unanswered: VecDeque<(u64, Option<Vec<u8>>)>,
    next: u64,
    subscribed: bool,
    gone: bool,
}

impl Client {
    pub fn new(stream: UnixStream) -> Client {
        Client { stream, input: Vec::new(), output: VecDeque::new(), unanswered: VecDeque::new(), next: 0, subscribed: false, gone: false }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.unanswered.len() < MOST_UNANSWERED {
            flags |= PollFlags::IN;
        }
        if !self.output.is_empty() {
            flags |= PollFlags::OUT;
        }
        flags
    }

    /// Whole requests, numbered. A frame that is too long or no request ends the connection: where the next one begins is unknown.
    pub fn read(&mut self) -> Vec<(u64, Request)> {
        let mut buffer = [0; 16 * 1024];
        let mut taken = 0;
        while taken < BYTES_A_TURN {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.gone = true;
                    break;
                }
                Ok(length) => {
                    taken += length;
                    self.input.extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        self.requests()
    }

    fn requests(&mut self) -> Vec<(u64, Request)> {
        let mut requests = Vec::new();
        let mut rest = self.input.as_slice();
        while let Some((prefix, body)) = rest.split_first_chunk::<4>() {
            let Ok(length) = protocol::checked_length(*prefix) else {
                self.gone = true;
                break;
            };
            let Some((body, behind)) = body.split_at_checked(length) else { break };
            rest = behind;
            match protocol::decode(body) {
                // After Subscribe a client has nothing more to ask.
                Ok(request) if !self.subscribed => {
                    self.next += 1;
                    self.unanswered.push_back((self.next, None));
                    requests.push((self.next, request));
                }
                Ok(_) | Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        let used = self.input.len() - rest.len();
        self.input.drain(..used);
        self.input.shrink_to(BYTES_A_TURN);
        requests
    }

    pub fn answer(&mut self, request: u64, response: &Response) {
        match protocol::encode(response) {
            Ok(frame) => self.put(request, frame),
            Err(_) => self.gone = true,
        }
    }

    pub fn subscribe(&mut self, request: u64, first: &[Event]) {
        let frames: Result<Vec<Vec<u8>>, _> = first.iter().map(protocol::encode).collect();
        match frames {
            Ok(frames) => {
                self.put(request, frames.concat());
                self.subscribed = true;
            }
            Err(_) => self.gone = true,
        }
    }

    pub fn publish(&mut self, event: &Event) {
        if !self.subscribed || self.gone {
            return;
        }
        match protocol::encode(event) {
            Ok(frame) => {
                self.output.extend(frame);
                self.gone |= self.output.len() > MOST_UNSENT_BYTES;
            }
            Err(_) => self.gone = true,
        }
    }

    fn put(&mut self, request: u64, frame: Vec<u8>) {
        if let Some((_, answer)) = self.unanswered.iter_mut().find(|(number, _)| *number == request) {
            *answer = Some(frame);
        }
        while let Some((_, Some(frame))) = self.unanswered.pop_front_if(|(_, answer)| answer.is_some()) {
            self.output.extend(frame);
        }
        self.gone |= self.output.len() > MOST_UNSENT_BYTES;
    }

    pub fn write(&mut self) {
        while !self.output.is_empty() && !self.gone {
            match self.stream.write(self.output.as_slices().0) {
                Ok(0) => self.gone = true,
                Ok(length) => {
                    self.output.drain(..length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone |= error.kind() != ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if self.output.is_empty() {
            self.output.shrink_to(BYTES_A_TURN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::service::ServiceId;

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("nonblocking");
        (Client::new(ours), theirs)
    }

    #[test]
    fn answers_come_in_the_order_of_requests() {
        let (mut client, mut agent) = pair();
        protocol::write_frame(&mut agent, &Request::ListServices).expect("send");
        protocol::write_frame(&mut agent, &Request::ListVolumes).expect("send");
        assert_eq!(client.read(), [(1, Request::ListServices), (2, Request::ListVolumes)]);

        client.answer(2, &Response::Volumes(Vec::new()));
        client.write();
        client.answer(1, &Response::Done);
        client.write();

        let answers: [Response; 2] = std::array::from_fn(|_| protocol::read_frame(&mut agent).expect("answer"));
        assert_eq!(answers, [Response::Done, Response::Volumes(Vec::new())]);
    }

    #[test]
    fn request_may_come_in_pieces() {
        let (mut client, mut agent) = pair();
        let frame = protocol::encode(&Request::StopService(ServiceId::new("a").expect("legal"))).expect("encode");
        for byte in &frame[..frame.len() - 1] {
            agent.write_all(&[*byte]).expect("send");
            assert_eq!(client.read(), []);
        }
        agent.write_all(&frame[frame.len() - 1..]).expect("send");
        assert_eq!(client.read().len(), 1);
        assert!(!client.is_gone());
    }

    #[test]
    fn nonsense_ends_the_connection() {
        for nonsense in [&[0xff; 8][..], b"\x02\0\0\0{}", b"\x01\0\0\0x"] {
            let (mut client, mut agent) = pair();
            agent.write_all(nonsense).expect("send");
            assert_eq!(client.read(), []);
            assert!(client.is_gone(), "{nonsense:?}");
        }
    }

    #[test]
    fn stalled_subscriber_is_dropped_with_bounded_memory() {
        let (mut client, mut agent) = pair();
        protocol::write_frame(&mut agent, &Request::Subscribe).expect("send");
        client.read();
        client.subscribe(1, &[]);
        let event = Event::ServiceRemoved(ServiceId::new(&"a".repeat(63)).expect("legal"));
        for _ in 0..200_000 {
            client.publish(&event);
            client.write();
            assert!(client.output.len() <= MOST_UNSENT_BYTES + 1024);
        }
        assert!(client.is_gone());
    }

    #[test]
    fn client_that_floods_is_not_read_further() {
        let (mut client, mut agent) = pair();
        for _ in 0..MOST_UNANSWERED {
            protocol::write_frame(&mut agent, &Request::ListServices).expect("send");
        }
        client.read();
        assert!(!client.interest().contains(PollFlags::IN));
    }
}
