//! The resolver as programs ask it, with name servers behind it that lie, hang, refuse and cut short.

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Edns, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::view::View;
use super::*;
use crate::controllers::fixtures;
use crate::controllers::namespace::Namespace;
use crate::init_client::InitClient;
use crate::node::Applied;
use crate::resources::network::Resolvers;
use crate::resources::overlay::ClusterNode;

/// A name server that says what it is told to, over both transports at one port.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

/// What is sent for a question, in this order; nothing to be silent.
type Say = fn(&Message, tcp: bool) -> Vec<Vec<u8>>;

impl Server {
    async fn start(say: Say) -> Server {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        let count = asked.clone();
        serving.spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                for answer in say(&Message::from_vec(&buffer[..length]).unwrap(), false) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        let count = asked.clone();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let question = forward::read(&mut stream).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                for answer in say(&Message::from_vec(&question).unwrap(), true) {
                    forward::write(&mut stream, &answer).await.unwrap();
                }
            }
        });
        Server { address, asked, _serving: serving }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn response(asked: &Message, code: ResponseCode, address: Option<[u8; 4]>) -> Message {
    let mut response = answer::failure(asked, code);
    if let Some([a, b, c, d]) = address {
        response.add_answer(Record::from_rdata(asked.queries[0].name.clone(), 60, RData::A(A::new(a, b, c, d))));
    }
    response
}

fn honest(asked: &Message, _: bool) -> Vec<Vec<u8>> {
    vec![response(asked, ResponseCode::NoError, Some([198, 51, 100, 7])).to_vec().unwrap()]
}

fn hangs(_: &Message, _: bool) -> Vec<Vec<u8>> {
    Vec::new()
}

/// Somebody's guesses come before the answer.
fn spoofed(asked: &Message, _: bool) -> Vec<Vec<u8>> {
    let lie = response(asked, ResponseCode::NoError, Some([203, 0, 113, 66]));
    let mut another_number = lie.clone();
    another_number.metadata.id = asked.metadata.id.wrapping_add(1);
    let mut another_name = lie.clone();
    another_name.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
    let mut question = lie.to_vec().unwrap();
    question[2] &= 0x7f;
    let mut all = vec![b"\x00".to_vec(), another_number.to_vec().unwrap(), another_name.to_vec().unwrap(), question];
    all.extend(honest(asked, false));
    all
}

fn refuses(asked: &Message, _: bool) -> Vec<Vec<u8>> {
    vec![response(asked, ResponseCode::Refused, None).to_vec().unwrap()]
}

fn knows_no_such_name(asked: &Message, _: bool) -> Vec<Vec<u8>> {
    vec![response(asked, ResponseCode::NXDomain, None).to_vec().unwrap()]
}

fn long(asked: &Message) -> Message {
    let mut response = response(asked, ResponseCode::NoError, None);
    for _ in 0..20 {
        response.add_answer(Record::from_rdata(asked.queries[0].name.clone(), 60, RData::TXT(TXT::new(vec!["x".repeat(200)]))));
    }
    response
}

fn cuts_short(asked: &Message, tcp: bool) -> Vec<Vec<u8>> {
    if tcp {
        return vec![long(asked).to_vec().unwrap()];
    }
    let mut short = response(asked, ResponseCode::NoError, None);
    short.metadata.truncation = true;
    vec![short.to_vec().unwrap()]
}

/// Sends by UDP whatever the asker can take.
fn too_long(asked: &Message, _: bool) -> Vec<Vec<u8>> {
    vec![long(asked).to_vec().unwrap()]
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// A resolver in front of these servers.
struct Asked {
    address: SocketAddr,
    _views: watch::Sender<Arc<View>>,
    _serving: JoinSet<std::io::Error>,
}

impl Asked {
    async fn in_front_of(servers: &[&Server]) -> Asked {
        let view = View { servers: servers.iter().map(|server| server.address).collect(), ..View::default() };
        let (views, receiver) = watch::channel(Arc::new(view));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(serve::serve(Arc::new(Resolver::new(receiver)), vec![(udp, tcp)]));
        Asked { address, _views: views, _serving: serving }
    }

    async fn udp(&self, question: &Message) -> Message {
        udp(self.address, question).await
    }

    async fn tcp(&self, question: &Message) -> Message {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        forward::write(&mut stream, &question.to_vec().unwrap()).await.unwrap();
        let answer = timeout(PATIENCE, forward::read(&mut stream)).await.expect("an answer").unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

/// As programs have it.
const PATIENCE: Duration = Duration::from_secs(5);

async fn udp(server: SocketAddr, question: &Message) -> Message {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&question.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (question.metadata.id, &question.queries));
    answer
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn questions_are_passed_on_and_answers_come_back() {
    let server = Server::start(honest).await;
    let resolver = Asked::in_front_of(&[&server]).await;
    let asked = question("www.example.com.", RecordType::A);
    for answer in [resolver.udp(&asked).await, resolver.tcp(&asked).await] {
        assert_eq!(addresses(&answer), ["198.51.100.7"]);
    }
    assert_eq!(server.asked(), 2);
    let nobody = Asked::in_front_of(&[]).await;
    assert_eq!(nobody.udp(&asked).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn who_guesses_is_not_believed() {
    let server = Server::start(spoofed).await;
    let resolver = Asked::in_front_of(&[&server]).await;
    assert_eq!(addresses(&resolver.udp(&question("www.example.com.", RecordType::A)).await), ["198.51.100.7"]);
    // Over TCP such a server is not listened to any longer.
    let answer = resolver.tcp(&question("www.example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn one_that_hangs_holds_up_the_first_question_only() {
    let (hanging, server) = (Server::start(hangs).await, Server::start(honest).await);
    let resolver = Asked::in_front_of(&[&hanging, &server]).await;
    let asked = question("www.example.com.", RecordType::A);
    assert_eq!(addresses(&resolver.udp(&asked).await), ["198.51.100.7"]);
    // From then on it comes last, which is after there was an answer.
    assert_eq!(addresses(&resolver.udp(&asked).await), ["198.51.100.7"]);
    assert_eq!((hanging.asked(), server.asked()), (1, 2));
    // All of them hang: an answer comes all the same, before the program gives up.
    let alone = Asked::in_front_of(&[&hanging]).await;
    let before = Instant::now();
    assert_eq!(alone.udp(&asked).await.metadata.response_code, ResponseCode::ServFail);
    assert!(before.elapsed() < PATIENCE);
    // One that was silent to the end comes last, and is asked all the same where it is the only one.
    let silent = forward::Silent::default();
    let sent = asked.to_vec().unwrap();
    let servers = [hanging.address, server.address];
    for servers in [&servers[..1], &servers, &servers[..1]] {
        let before = hanging.asked();
        let answered = forward::forward(&sent, forward::Transport::Udp, servers, &silent).await.is_some();
        assert_eq!((answered, hanging.asked() - before), (servers.len() == 2, usize::from(servers.len() == 1)));
    }
}

#[tokio::test]
async fn another_server_is_asked_where_one_fails_and_not_where_there_is_nothing() {
    let (refusing, server, nothing) = (Server::start(refuses).await, Server::start(honest).await, Server::start(knows_no_such_name).await);
    let asked = question("www.example.com.", RecordType::A);
    let resolver = Asked::in_front_of(&[&refusing, &server]).await;
    assert_eq!(addresses(&resolver.udp(&asked).await), ["198.51.100.7"]);
    let resolver = Asked::in_front_of(&[&nothing, &server]).await;
    assert_eq!(resolver.udp(&asked).await.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.asked(), 1);
    let resolver = Asked::in_front_of(&[&refusing]).await;
    assert_eq!(resolver.udp(&asked).await.metadata.response_code, ResponseCode::Refused, "what it said is better than nothing");
}

#[tokio::test]
async fn what_is_cut_short_comes_whole_by_tcp() {
    let asked = question("long.example.com.", RecordType::TXT);
    for say in [cuts_short as Say, too_long] {
        let server = Server::start(say).await;
        let resolver = Asked::in_front_of(&[&server]).await;
        let short = resolver.udp(&asked).await;
        assert!(short.metadata.truncation && short.answers.is_empty());
        let whole = resolver.tcp(&asked).await;
        assert!(!whole.metadata.truncation);
        assert_eq!(whole.answers.len(), 20);
    }
    // One that can take more gets it at once.
    let server = Server::start(too_long).await;
    let mut generous = asked.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096 + 1000);
    generous.set_edns(edns);
    let silent = forward::Silent::default();
    let sent = generous.to_vec().unwrap();
    let answer = forward::forward(&sent, forward::Transport::Udp, &[server.address], &silent).await.unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 20);
}

#[tokio::test]
async fn nobody_but_this_machine_and_its_pods_may_ask() {
    let view = View { pods: vec!["10.244.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()], ..View::default() };
    for (source, may) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("169.254.116.108", true),
        ("10.244.3.7", true),
        ("::ffff:10.244.3.7", true),
        ("fd00::7", true),
        ("169.254.169.254", false),
        ("192.0.2.66", false),
        ("10.245.0.1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(view.may_ask(source.parse().unwrap()), may, "{source}");
    }
}

/// As the agent runs it: in a network of its own, by what is on the board.
#[test]
fn it_stands_at_its_address_and_follows_the_board() {
    let namespace = Namespace::new();
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let root = machine::Root::new("/nowhere");
            let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
            node.set_config(Applied { generation: 1, config: fixtures::machine("worker").config });
            let running = tokio::spawn(run(node.clone()));
            let mut board = node.store.revision();
            let listening = async {
                loop {
                    if let Some(told) = node.store.get::<LocalResolver>(LocalResolver::NAME) {
                        return told.addresses;
                    }
                    board.changed().await.unwrap();
                }
            };
            let addresses_told = timeout(PATIENCE, listening).await.expect("it listens");
            assert_eq!(addresses_told, [IpAddr::V4(ADDRESS), IpAddr::V6(ADDRESS_V6)]);

            // A name server at the port where name servers are.
            let upstream = UdpSocket::bind("127.0.0.2:53").await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                loop {
                    let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
                    let answer = honest(&Message::from_vec(&buffer[..length]).unwrap(), false).remove(0);
                    upstream.send_to(&answer, from).await.unwrap();
                }
            });
            node.store.put("cp-1", &ClusterNode { addresses: vec!["192.0.2.10".parse().unwrap()], ..ClusterNode::default() });
            node.store.put(Resolvers::NAME, &Resolvers { nameservers: vec![IpAddr::V4(ADDRESS), "127.0.0.2".parse().unwrap()] });
            for address in addresses_told {
                let server = SocketAddr::new(address, PORT);
                let known = |asked: Message, expected: &'static str| async move {
                    let deadline = Instant::now() + PATIENCE;
                    while addresses(&udp(server, &asked).await) != [expected] {
                        assert!(Instant::now() < deadline, "{expected} is not known");
                    }
                };
                known(question("cp-1.", RecordType::A), "192.0.2.10").await;
                known(question("www.example.com.", RecordType::A), "198.51.100.7").await;
            }
            running.abort();
        });
    });
}

/// Asks from an address in another network, as a program there does.
fn asks_from(namespace: &Namespace, source: IpAddr, server: IpAddr) -> Option<Vec<String>> {
    namespace.enter(|| {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        socket.send_to(&question("cp-1.", RecordType::A).to_vec().unwrap(), SocketAddr::new(server, PORT)).unwrap();
        let mut buffer = [0; 4096];
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, SocketAddr::new(server, PORT), "the answer comes from where the question went");
        Some(addresses(&Message::from_vec(&buffer[..length]).unwrap()))
    })
}

/// A pod on the node, with an address of its own network in each family; and the same link with an address that is no pod's.
#[test]
fn pods_reach_it_and_neighbours_do_not() {
    let (machine, pod) = (Namespace::new(), Namespace::new());
    machine.run(&format!("ip link add veth0 type veth peer name eth0 netns {}", pod.pid()));
    for line in ["address add 10.244.0.1/24 dev veth0", "address add fd00:244::1/64 dev veth0 nodad", "address add 192.0.2.1/24 dev veth0"]
    {
        machine.run(&format!("ip {line}"));
    }
    machine.run("ip link set veth0 up");
    for line in ["address add 10.244.0.5/24 dev eth0", "address add fd00:244::5/64 dev eth0 nodad", "address add 192.0.2.66/24 dev eth0"] {
        pod.run(&format!("ip {line}"));
    }
    for line in ["link set eth0 up", "route add default via 10.244.0.1", "-6 route add default via fd00:244::1"] {
        pod.run(&format!("ip {line}"));
    }
    machine.enter(|| {
        // Its threads are in the machine's network, as this one is.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let root = machine::Root::new("/nowhere");
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let networks = |config: &mut machine::config::Config| {
            config.cluster.network.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/48".parse().unwrap()];
        };
        let configured = fixtures::changed(&fixtures::machine("worker"), networks);
        node.set_config(Applied { generation: 1, config: configured.config });
        node.store.put("cp-1", &ClusterNode { addresses: vec!["192.0.2.10".parse().unwrap()], ..ClusterNode::default() });
        runtime.spawn(run(node.clone()));
        let known = Some(vec!["192.0.2.10".to_owned()]);
        let deadline = std::time::Instant::now() + PATIENCE;
        for (source, server) in [("10.244.0.5", IpAddr::V4(ADDRESS)), ("fd00:244::5", IpAddr::V6(ADDRESS_V6))] {
            while asks_from(&pod, source.parse().unwrap(), server) != known {
                assert!(std::time::Instant::now() < deadline, "a pod at {source} gets no answer from {server}");
            }
        }
        assert_eq!(asks_from(&pod, "192.0.2.66".parse().unwrap(), IpAddr::V4(ADDRESS)), None, "a neighbour is not answered");
        runtime.shutdown_background();
    });
}
