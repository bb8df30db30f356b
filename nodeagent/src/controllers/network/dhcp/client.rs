//! What a DHCP client does next (RFC 2131, 4.4, figure 5): a state, an event, the next state, and what has to be done. It knows no clock and no network.
//!
//! DHCPv6 (RFC 8415) has the same states and other words: Solicit for discover, Advertise for offer, Reply for ACK, and a Reply with a status for NAK.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::packets::Mac;
use crate::resources::network::{Lease, hardware_address};

/// Before a question is asked again for the first time; each further time takes twice as long. RFC 2131 begins with 4 s, and boots wait for it.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(64);

/// At least between two questions for a renewal (RFC 2131, 4.4.5); a sixteenth of a lease that is shorter than that makes sense for.
const RENEW_PAUSE: Duration = Duration::from_secs(60);

/// After an address that another machine has (RFC 2131, 3.1.5).
const DECLINED_PAUSE: Duration = Duration::from_secs(10);

/// After a server that takes its own offer back.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// How often an offer is asked for before others are.
const REQUESTS: u32 = 3;

/// How often servers are asked for the lease that is held after the link was down, before they are asked for any.
const CONFIRMATIONS: u32 = 3;

/// No time that comes.
const NEVER: Duration = Duration::MAX;

/// What a client says (RFC 2131, table 4 and 5; RFC 8415, 18.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Discover,
    /// Takes an offer.
    Request {
        address: IpAddr,
        server: Server,
    },
    /// Whether an address is still good: the link may be in another network now.
    Confirm {
        address: IpAddr,
    },
    /// Of the server that granted it.
    Renew {
        address: IpAddr,
        server: Server,
    },
    /// Of any server.
    Rebind {
        address: IpAddr,
    },
    /// Another machine has it.
    Decline {
        address: IpAddr,
        server: Server,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub address: IpAddr,
    /// What DHCPv6 knows it by (DUID); DHCPv4 knows it by its address.
    pub id: Vec<u8>,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// A lease as a server offers or grants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub address: IpAddr,
    pub server: Server,
    /// Counted from when it was asked for; `None` has no end.
    pub times: Option<Times>,
    pub lease: Lease,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    pub renew: Duration,
    pub rebind: Duration,
    pub end: Duration,
}

impl Times {
    /// A half and seven eighths of the time to its end (RFC 2131, 4.4.5) unless the server gives others that make sense.
    pub fn until(end: Duration, renew: Option<Duration>, rebind: Option<Duration>) -> Times {
        let rebind = rebind.filter(|rebind| *rebind > Duration::ZERO && *rebind < end).unwrap_or(end * 7 / 8);
        let renew =
            renew.filter(|renew| *renew > Duration::ZERO && *renew < rebind).unwrap_or(if end / 2 < rebind { end / 2 } else { rebind / 2 });
        Times { renew, rebind, end }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Offer(Grant),
    Ack(Grant),
    /// What is held is good on this link, for as long as it was.
    Confirmed,
    Nak,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    NoCarrier,
    /// Lets servers alone for a moment.
    Pausing,
    Selecting,
    /// Has asked for this offer.
    Requesting(Grant),
    /// Looks whether another machine has the address; the time is that of the question.
    Probing(Grant, Duration),
    /// Asks whether the lease that it holds is good on this link still.
    Confirming,
    Bound,
    Renewing,
    Rebinding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Event {
    Carrier(bool),
    Heard(Reply),
    /// The time of [`Client::wake`] has come.
    Elapsed,
    /// Who else has the address.
    Probed(Option<Mac>),
    /// The kernel has found another machine with the address that is held.
    Duplicate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Send(Ask),
    Probe(IpAddr),
    /// The lease is good: the address may be used.
    Take(Lease),
    /// It is not to be used any longer.
    Drop,
    Tell(&'static str, String),
}

/// A lease that is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub grant: Grant,
    /// When it was asked for.
    from: Duration,
}

impl Held {
    fn at(&self, time: impl Fn(&Times) -> Duration) -> Duration {
        self.grant.times.as_ref().map_or(NEVER, |times| self.from.saturating_add(time(times)))
    }

    pub fn end(&self) -> Duration {
        self.at(|times| times.end)
    }
}

/// All times are since the boot.
#[derive(Debug, Clone)]
pub struct Client {
    state: State,
    /// The lease that is in use.
    held: Option<Held>,
    /// How often the question was asked in this state.
    asked: u32,
    /// When it was asked last.
    asked_at: Duration,
    /// When this state has had enough.
    until: Duration,
}

impl Client {
    /// Begins as a link without carrier, with what it held before.
    pub fn new(held: Option<Held>) -> Client {
        Client { state: State::NoCarrier, held, asked: 0, asked_at: Duration::ZERO, until: NEVER }
    }

    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// When it wants to hear that time has elapsed; `None` for never.
    pub fn wake(&self) -> Option<Duration> {
        let end = self.held.as_ref().map_or(NEVER, Held::end);
        Some(self.until.min(end)).filter(|wake| *wake != NEVER)
    }

    /// Whether it waits for what servers say.
    pub fn listens(&self) -> bool {
        match self.state {
            State::Selecting | State::Requesting(_) | State::Confirming | State::Renewing | State::Rebinding => true,
            State::NoCarrier | State::Pausing | State::Probing(..) | State::Bound => false,
        }
    }

    /// `jitter` is up to a second, at random: machines that start together do not ask together.
    pub fn next(&mut self, event: Event, now: Duration, jitter: Duration) -> Vec<Effect> {
        let mut step = Step { now, jitter, effects: Vec::new() };
        if self.held.as_ref().is_some_and(|held| now >= held.end()) {
            self.run_out(&mut step);
        }
        match (self.state.clone(), event) {
            (State::NoCarrier, Event::Carrier(true)) if self.held.is_some() => {
                self.enter(State::Confirming);
                self.ask(&mut step);
            }
            (State::NoCarrier, Event::Carrier(true)) => self.select(&mut step),
            (_, Event::Carrier(true)) | (State::NoCarrier, Event::Carrier(false)) => {}
            (_, Event::Carrier(false)) => {
                self.enter(State::NoCarrier);
                self.until = NEVER;
            }
            (_, Event::Elapsed) if now < self.until => {}
            (state, Event::Elapsed) => self.elapsed(&state, &mut step),
            (State::Selecting, Event::Heard(Reply::Offer(offer))) => {
                self.enter(State::Requesting(offer));
                self.ask(&mut step);
            }
            (State::Requesting(_), Event::Heard(Reply::Ack(grant))) => self.granted(grant, &mut step),
            (State::Requesting(offer), Event::Heard(Reply::Nak)) => {
                step.tell("LeaseRefused", format!("{} takes back its offer of {}", offer.server, offer.address));
                self.pause(REFUSED_PAUSE, &step);
            }
            (State::Confirming | State::Renewing | State::Rebinding, Event::Heard(Reply::Ack(grant))) => self.granted(grant, &mut step),
            (State::Confirming, Event::Heard(Reply::Confirmed)) => {
                self.enter(State::Bound);
                self.until = self.held.as_ref().map_or(NEVER, |held| held.at(|times| times.renew));
            }
            (State::Confirming | State::Renewing | State::Rebinding, Event::Heard(Reply::Nak)) => {
                self.lose("LeaseRefused", "a server says that it is not good here any more", &mut step);
                self.select(&mut step);
            }
            (State::Probing(grant, _), Event::Probed(Some(mac))) => self.taken(&grant, Some(mac), &mut step),
            (State::Confirming | State::Bound | State::Renewing | State::Rebinding, Event::Duplicate) => {
                if let Some(held) = self.held.clone() {
                    self.taken(&held.grant, None, &mut step);
                }
            }
            (State::Probing(grant, from), Event::Probed(None)) => self.bind(grant, from, &mut step),
            // Answers that are late, and those to questions of before.
            (_, Event::Probed(_) | Event::Heard(_) | Event::Duplicate) => {}
        }
        step.effects
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.asked = 0;
    }

    fn select(&mut self, step: &mut Step) {
        self.enter(State::Selecting);
        self.ask(step);
    }

    fn pause(&mut self, pause: Duration, step: &Step) {
        self.enter(State::Pausing);
        self.until = step.now + pause + step.jitter;
    }

    fn elapsed(&mut self, state: &State, step: &mut Step) {
        match state {
            // It holds nothing, or that has just run out.
            State::NoCarrier => {}
            State::Pausing => self.select(step),
            State::Requesting(_) if self.asked >= REQUESTS => self.select(step),
            State::Confirming if self.asked >= CONFIRMATIONS => self.select(step),
            State::Selecting | State::Requesting(_) | State::Confirming | State::Rebinding => self.ask(step),
            State::Bound | State::Renewing => {
                if let Some(held) = self.held.as_ref().filter(|held| step.now >= held.at(|times| times.rebind)) {
                    let left = held.end().saturating_sub(step.now).as_secs();
                    step.tell(
                        "LeaseNotRenewed",
                        format!("{} does not answer; any server is asked, and the lease ends in {left} s", held.grant.server),
                    );
                    self.enter(State::Rebinding);
                } else if *state == State::Bound {
                    self.enter(State::Renewing);
                }
                self.ask(step);
            }
            // Whoever looks always comes to an end.
            State::Probing(..) => {}
        }
    }

    /// Asks what this state has to ask, and says when it will have waited for long enough.
    fn ask(&mut self, step: &mut Step) {
        let held = self.held.as_ref();
        let renewal = |held: &Held, ends: Duration| {
            let left = ends.saturating_sub(step.now);
            let least = held.grant.times.as_ref().map_or(RENEW_PAUSE, |times| RENEW_PAUSE.min(times.end / 16));
            step.now + left.min((left / 2).max(least))
        };
        let retry = step.now + (RETRY_MIN * 2_u32.pow(self.asked.min(5))).min(RETRY_MAX) + step.jitter;
        let (ask, until) = match (&self.state, held) {
            (State::Selecting, _) => (Ask::Discover, retry),
            (State::Requesting(offer), _) => (Ask::Request { address: offer.address, server: offer.server.clone() }, retry),
            (State::Confirming, Some(held)) => (Ask::Confirm { address: held.grant.address }, retry),
            (State::Renewing, Some(held)) => {
                let Grant { address, server, .. } = held.grant.clone();
                (Ask::Renew { address, server }, renewal(held, held.at(|times| times.rebind)))
            }
            (State::Rebinding, Some(held)) => (Ask::Rebind { address: held.grant.address }, renewal(held, held.end())),
            (State::NoCarrier | State::Pausing | State::Probing(..) | State::Bound, _)
            | (State::Confirming | State::Renewing | State::Rebinding, None) => return,
        };
        self.asked += 1;
        self.asked_at = step.now;
        self.until = until;
        step.effects.push(Effect::Send(ask));
    }

    /// The address is looked at before it is used, and again after the link was down.
    fn granted(&mut self, grant: Grant, step: &mut Step) {
        let is_known = self.held.as_ref().is_some_and(|held| held.grant.address == grant.address);
        if is_known && matches!(self.state, State::Renewing | State::Rebinding) {
            return self.bind(grant, self.asked_at, step);
        }
        step.effects.push(Effect::Probe(grant.address));
        self.enter(State::Probing(grant, self.asked_at));
        self.until = NEVER;
    }

    fn bind(&mut self, grant: Grant, from: Duration, step: &mut Step) {
        let held = Held { grant, from };
        if step.now >= held.end() {
            return self.select(step);
        }
        let grant = &held.grant;
        let before = self.held.take();
        let lease = grant.lease.clone();
        match before.as_ref().map(|before| &before.grant.lease) {
            None => step.tell("Leased", format!("{} from {} for {}", lease.address, lease.server, length(grant))),
            Some(before) => {
                if let Some(changes) = changes(before, &lease) {
                    step.tell("LeaseChanged", changes);
                }
            }
        }
        step.effects.push(Effect::Take(lease));
        self.until = held.at(|times| times.renew);
        self.held = Some(held);
        self.enter(State::Bound);
    }

    /// Another machine has the address.
    fn taken(&mut self, grant: &Grant, mac: Option<Mac>, step: &mut Step) {
        let Grant { address, server, .. } = grant.clone();
        step.effects.push(Effect::Send(Ask::Decline { address, server: server.clone() }));
        let other = mac.map_or("another machine".to_owned(), |mac| hardware_address(&mac));
        step.tell("DuplicateAddress", format!("{address}, which {server} grants, is that of {other} already: declined"));
        if self.held.as_ref().is_some_and(|held| held.grant.address == address) {
            self.held = None;
            step.effects.push(Effect::Drop);
        }
        self.pause(DECLINED_PAUSE, step);
    }

    /// A lease that ran out is not to be used any longer (RFC 2131, 4.4.5).
    fn run_out(&mut self, step: &mut Step) {
        self.lose("LeaseLost", "no server renewed it in time", step);
        match self.state {
            State::Confirming | State::Bound | State::Renewing | State::Rebinding => self.select(step),
            State::NoCarrier | State::Pausing | State::Selecting | State::Requesting(_) | State::Probing(..) => {}
        }
    }

    fn lose(&mut self, reason: &'static str, why: &str, step: &mut Step) {
        if let Some(held) = self.held.take() {
            step.tell(reason, format!("{} from {} is not used any more: {why}", held.grant.lease.address, held.grant.server));
            step.effects.push(Effect::Drop);
        }
    }
}

/// What is given to each step, and what comes of it.
struct Step {
    now: Duration,
    jitter: Duration,
    effects: Vec<Effect>,
}

impl Step {
    fn tell(&mut self, reason: &'static str, message: String) {
        self.effects.push(Effect::Tell(reason, message));
    }
}

fn length(grant: &Grant) -> String {
    if grant.times.is_some() { format!("{} s", grant.lease.seconds) } else { "ever".to_owned() }
}

/// What is another now, in words.
fn changes(before: &Lease, after: &Lease) -> Option<String> {
    let routes = |lease: &Lease| {
        let route = |route: &crate::resources::network::LeaseRoute| match route.via {
            Some(via) => format!("{} via {via}", route.to),
            None => route.to.to_string(),
        };
        lease.routes.iter().map(route).collect::<Vec<_>>().join(", ")
    };
    let list = |ips: &[std::net::IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mtu = |lease: &Lease| lease.mtu.map(|mtu| mtu.to_string()).unwrap_or_default();
    let parts = [
        ("address", before.address.to_string(), after.address.to_string()),
        ("server", before.server.to_string(), after.server.to_string()),
        ("routes", routes(before), routes(after)),
        ("name servers", list(&before.nameservers), list(&after.nameservers)),
        ("time servers", list(&before.time_servers), list(&after.time_servers)),
        ("hostname", before.hostname.clone().unwrap_or_default(), after.hostname.clone().unwrap_or_default()),
        ("MTU", mtu(before), mtu(after)),
    ];
    let or_none = |value: String| if value.is_empty() { "none".to_owned() } else { value };
    let changed = parts.into_iter().filter(|(_, before, after)| before != after);
    let told: Vec<String> = changed.map(|(what, before, after)| format!("{what}: {} -> {}", or_none(before), or_none(after))).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
pub mod tests;
