//! Every state with every event, as a table; what happens to a lease over time; and what holds whatever happens.

use std::fmt::Write;

use proptest::prelude::*;

use std::net::Ipv4Addr;

use super::*;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OTHER: Mac = [2, 0, 0, 0, 0, 9];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// For 80 s: renewed from the 40th, asked of any server from the 70th.
fn grant(last: u8) -> Grant {
    let address = IpAddr::from([192, 0, 2, last]);
    let lease = Lease {
        address: format!("{address}/24").parse().unwrap(),
        routes: Vec::new(),
        nameservers: Vec::new(),
        time_servers: Vec::new(),
        hostname: None,
        mtu: None,
        server: SERVER,
        seconds: 80,
    };
    Grant {
        address,
        server: Server { address: SERVER, id: Vec::new() },
        times: Some(Times { renew: seconds(40), rebind: seconds(70), end: seconds(80) }),
        lease,
    }
}

/// What is held for 80 s from then on.
pub fn held(from: Duration) -> Held {
    Held { grant: grant(10), from }
}

fn next(client: &mut Client, event: Event, at: u64) -> Vec<Effect> {
    client.next(event, seconds(at), Duration::ZERO)
}

/// A client that holds a lease since the beginning.
fn bound() -> Client {
    let mut client = Client::new(None);
    for event in [Event::Carrier(true), Event::Heard(Reply::Offer(grant(10))), Event::Heard(Reply::Ack(grant(10))), Event::Probed(None)] {
        next(&mut client, event, 0);
    }
    client
}

fn after(mut client: Client, events: &[(u64, Event)]) -> Client {
    for (at, event) in events {
        next(&mut client, event.clone(), *at);
    }
    client
}

fn word(state: &State) -> String {
    format!("{state:?}").split(['(', ' ']).next().unwrap_or_default().replace("NoCarrier", "no carrier")
}

fn words(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Send(ask) => format!("send {}", format!("{ask:?}").split(' ').next().unwrap_or_default()),
        Effect::Probe(address) => format!("probe {address}"),
        Effect::Take(lease) => format!("take {}", lease.address),
        Effect::Drop => "drop".to_owned(),
        Effect::Tell(reason, message) => format!("tell {reason}: {message}"),
    };
    effects.iter().map(word).collect::<Vec<_>>().join("\n        ")
}

/// Each state, the moment that the table is of, and the client.
fn every_state() -> Vec<(&'static str, u64, Client)> {
    let offer = || Event::Heard(Reply::Offer(grant(10)));
    let ack = |last| Event::Heard(Reply::Ack(grant(last)));
    let up = || Event::Carrier(true);
    let confirming = after(bound(), &[(10, Event::Carrier(false)), (11, up())]);
    vec![
        ("no carrier", 5, Client::new(None)),
        ("no carrier, with a lease", 20, after(bound(), &[(10, Event::Carrier(false))])),
        ("pausing", 30, after(Client::new(None), &[(0, up()), (0, offer()), (0, ack(10)), (1, Event::Probed(Some(OTHER)))])),
        ("selecting", 2, after(Client::new(None), &[(0, up())])),
        ("requesting", 2, after(Client::new(None), &[(0, up()), (0, offer())])),
        ("probing", 2, after(Client::new(None), &[(0, up()), (0, offer()), (0, ack(10))])),
        ("confirming", 13, confirming.clone()),
        ("probing, with a lease", 13, after(confirming, &[(12, ack(10))])),
        ("bound", 40, bound()),
        ("renewing", 55, after(bound(), &[(40, Event::Elapsed)])),
        ("rebinding", 75, after(bound(), &[(40, Event::Elapsed), (70, Event::Elapsed)])),
    ]
}

#[test]
fn every_state_answers_every_event_as_the_table_says() {
    let events = [
        ("carrier", Event::Carrier(true)),
        ("no carrier", Event::Carrier(false)),
        ("offer", Event::Heard(Reply::Offer(grant(11)))),
        ("ack", Event::Heard(Reply::Ack(grant(10)))),
        ("ack of another", Event::Heard(Reply::Ack(grant(11)))),
        ("nak", Event::Heard(Reply::Nak)),
        ("confirmed", Event::Heard(Reply::Confirmed)),
        ("time", Event::Elapsed),
        ("free", Event::Probed(None)),
        ("taken", Event::Probed(Some(OTHER))),
        ("duplicate", Event::Duplicate),
    ];
    let mut table = String::new();
    for (name, at, client) in every_state() {
        writeln!(table, "{name}").unwrap();
        for (event_name, event) in &events {
            let mut after = client.clone();
            let effects = next(&mut after, event.clone(), at);
            if effects.is_empty() && after.state == client.state {
                continue;
            }
            writeln!(table, "    {event_name}: {}", word(&after.state).to_lowercase()).unwrap();
            if !effects.is_empty() {
                writeln!(table, "        {}", words(&effects)).unwrap();
            }
        }
    }
    crate::golden::check("src/controllers/network/dhcp/golden/states.txt", &table);
}

#[test]
fn a_silent_server_is_asked_more_often_and_then_any_and_the_lease_ends_in_time() {
    let mut client = bound();
    let mut told = Vec::new();
    let mut now = Duration::ZERO;
    while let Some(wake) = client.wake().filter(|_| now < seconds(100)) {
        assert!(wake > now, "{client:?}");
        now = wake;
        for effect in client.next(Event::Elapsed, now, Duration::ZERO) {
            match effect {
                Effect::Send(ask) => told.push(format!("{} {}", now.as_secs(), format!("{ask:?}").split(' ').next().unwrap_or_default())),
                Effect::Drop => told.push(format!("{} drop", now.as_secs())),
                _ => {}
            }
        }
    }
    let expected = [
        "40 Renew",
        "55 Renew",
        "62 Renew",
        "67 Renew",
        "70 Rebind",
        "75 Rebind",
        "80 drop",
        "80 Discover",
        "82 Discover",
        "86 Discover",
        "94 Discover",
        "110 Discover",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_lease_without_an_end_is_never_renewed() {
    let endless = Grant { times: None, ..grant(10) };
    let mut client = after(Client::new(None), &[(0, Event::Carrier(true)), (0, Event::Heard(Reply::Offer(grant(10))))]);
    next(&mut client, Event::Heard(Reply::Ack(endless)), 0);
    next(&mut client, Event::Probed(None), 0);
    assert_eq!((&client.state, client.wake()), (&State::Bound, None));
}

#[test]
fn what_a_renewal_changes_is_told() {
    let mut client = after(bound(), &[(40, Event::Elapsed)]);
    let mut changed = grant(10);
    changed.lease.mtu = Some(1400);
    changed.lease.nameservers = vec!["192.0.2.3".parse().unwrap()];
    let effects = next(&mut client, Event::Heard(Reply::Ack(changed.clone())), 40);
    let told = Effect::Tell("LeaseChanged", "name servers: none -> 192.0.2.3; MTU: none -> 1400".to_owned());
    assert_eq!(effects, [told, Effect::Take(changed.lease)]);
    // As long again from the question on.
    assert_eq!(client.wake(), Some(seconds(80)));
}

fn event() -> impl Strategy<Value = Event> {
    let last = 10..13_u8;
    prop_oneof![
        any::<bool>().prop_map(Event::Carrier),
        last.clone().prop_map(|last| Event::Heard(Reply::Offer(grant(last)))),
        last.prop_map(|last| Event::Heard(Reply::Ack(grant(last)))),
        Just(Event::Heard(Reply::Nak)),
        Just(Event::Heard(Reply::Confirmed)),
        Just(Event::Duplicate),
        Just(Event::Elapsed),
        Just(Event::Probed(None)),
        Just(Event::Probed(Some(OTHER))),
    ]
}

proptest! {
    #[test]
    fn a_lease_is_in_use_until_it_is_dropped_and_never_past_its_end(events in prop::collection::vec((event(), 0..30_u64), 1..60)) {
        let (mut client, mut now, mut used) = (Client::new(None), 0, None);
        for (event, pause) in events {
            now += pause;
            for effect in next(&mut client, event, now) {
                match effect {
                    Effect::Take(lease) => used = Some(lease),
                    Effect::Drop => prop_assert!(used.take().is_some(), "nothing to drop: {client:?}"),
                    _ => {}
                }
            }
            prop_assert_eq!(&used, &client.held.as_ref().map(|held| held.grant.lease.clone()));
            prop_assert!(client.held.as_ref().is_none_or(|held| seconds(now) < held.end()), "{:?} at {}", client, now);
            next(&mut client, Event::Elapsed, now).into_iter().for_each(|effect| if effect == Effect::Drop { used = None });
            // It never asks to be woken at a time that has been.
            prop_assert!(client.wake().is_none_or(|wake| wake > seconds(now)), "{:?} at {}", client, now);
        }
    }
}

#[test]
fn an_agent_that_starts_anew_asks_for_what_it_held_and_uses_it_until_it_is_refused() {
    let address = IpAddr::from([192, 0, 2, 10]);
    let mut client = Client::new(Some(held(seconds(5))));
    assert_eq!(next(&mut client, Event::Carrier(true), 20), [Effect::Send(Ask::Confirm { address })]);
    assert_eq!(client.held(), Some(&held(seconds(5))));
    let refused = next(&mut client, Event::Heard(Reply::Nak), 21);
    assert!(refused.contains(&Effect::Drop) && refused.contains(&Effect::Send(Ask::Discover)), "{refused:?}");
    // One that ends while there is no carrier.
    let mut client = Client::new(Some(held(seconds(5))));
    assert_eq!(client.wake(), Some(seconds(85)));
    assert!(next(&mut client, Event::Elapsed, 85).contains(&Effect::Drop));
}
