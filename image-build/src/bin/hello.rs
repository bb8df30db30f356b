//! The sample application: a small HTTP server for `make run`, and what tests need inside a pod that has no shell.
//!
//! ```text
//! hello serve            answers on :8080 with $GREETING (default "hello") and the pod's name; /healthz, /readyz; POST-less switches
//!                        /fail, /unready, /ready, /exit turn them; $STARTUP_SECONDS delays /healthz
//! hello get URL          prints what http://ADDRESS:PORT/PATH answers (a name is asked of the pod's name server)
//! hello resolve NAME     prints the IPv4 addresses of a name
//! hello kill NAME        sends SIGKILL to every process of that name that it can see
//! hello exit CODE        ends with that code
//! hello sleep            waits for SIGTERM
//! hello stress SECONDS   uses a processor and memory, starts and ends processes and writes to its file system, all the time
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Pid, kill_process};

const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        [] | ["serve"] => end_on_request().and_then(|()| serve()),
        ["get", url] => get(url),
        ["resolve", name] => resolve(name).map(|addresses| addresses.iter().for_each(|address| println!("{address}"))),
        ["kill", name] => kill(name),
        ["exit", code] => return ExitCode::from(code.parse().unwrap_or(2)),
        ["sleep"] => end_on_request().map(|()| {
            loop {
                std::thread::park();
            }
        }),
        ["stress", seconds] => seconds.parse().map_err(io::Error::other).and_then(|seconds| stress(Duration::from_secs(seconds))),
        other => Err(io::Error::other(format!(
            "{other:?}: expected serve, get URL, resolve NAME, kill NAME, exit CODE, sleep or stress SECONDS"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program on SIGTERM: the first process of a pod has no other reaction to it than its own.
fn end_on_request() -> io::Result<()> {
    let signals = SigSet::from(Signal::SIGTERM);
    // Threads that start later have it blocked as well.
    signals.thread_block()?;
    std::thread::spawn(move || signals.wait().map(|_| std::process::exit(0)));
    Ok(())
}

/// What the switches have turned.
struct State {
    began: Instant,
    startup: Duration,
    healthy: AtomicBool,
    ready: AtomicBool,
    greeting: String,
}

fn serve() -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).ok();
    let seconds = variable("STARTUP_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(0);
    let state = Arc::new(State {
        began: Instant::now(),
        startup: Duration::from_secs(seconds),
        healthy: AtomicBool::new(true),
        ready: AtomicBool::new(true),
        greeting: variable("GREETING").unwrap_or_else(|| "hello".to_owned()),
    });
    let listener = TcpListener::bind("[::]:8080").or_else(|_| TcpListener::bind("0.0.0.0:8080"))?;
    println!("hello: listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let state = state.clone();
        // One client that hangs must not keep the probes out.
        std::thread::spawn(move || stream.and_then(|stream| answer(stream, &state)));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut lines = BufReader::new(stream.try_clone()?).take(8192).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // To the end of the header: closing a connection with bytes unread resets it, and the client may lose the answer.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let up = state.began.elapsed() >= state.startup;
    let (ok, body) = match path {
        "/" => (true, format!("{} from {}", state.greeting, hostname())),
        "/healthz" => (up && state.healthy.load(Ordering::Relaxed), "health".to_owned()),
        "/readyz" => (up && state.ready.load(Ordering::Relaxed), "readiness".to_owned()),
        "/fail" => (turn(&state.healthy, false), "failing".to_owned()),
        "/unready" => (turn(&state.ready, false), "unready".to_owned()),
        "/ready" => (turn(&state.ready, true), "ready".to_owned()),
        "/exit" => std::process::exit(1),
        _ => (false, format!("no such path: {path}")),
    };
    println!("hello: {} {}", request, if ok { 200 } else { 503 });
    let status = if ok { "200 OK" } else { "503 Service Unavailable" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}\n",
        body.len() + 1
    )
}

fn turn(switch: &AtomicBool, to: bool) -> bool {
    switch.store(to, Ordering::Relaxed);
    true
}

fn hostname() -> String {
    String::from_utf8_lossy(rustix::system::uname().nodename().to_bytes()).into_owned()
}

fn get(url: &str) -> io::Result<()> {
    let wrong = || io::Error::other(format!("{url:?}: expected http://HOST:PORT/PATH"));
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = match authority.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => {
            let (name, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
            let address = *resolve(name)?.first().ok_or_else(|| io::Error::other(format!("{name} has no address")))?;
            SocketAddr::new(address, port.parse().map_err(|_| wrong())?)
        }
    };
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let status = head.split(' ').nth(1).unwrap_or("none");
    print!("{body}");
    if status.starts_with('2') { Ok(()) } else { Err(io::Error::other(format!("status {status}"))) }
}

/// Types of records with addresses: A (RFC 1035) and AAAA (RFC 3596).
const A: u8 = 1;
const AAAA: u8 = 28;

/// Asks the pod's first name server, for IPv4 addresses first: a static program has no resolver of the C library to ask.
fn resolve(name: &str) -> io::Result<Vec<IpAddr>> {
    match ask(name, A)? {
        found if found.is_empty() => ask(name, AAAA),
        found => Ok(found),
    }
}

fn ask(name: &str, kind: u8) -> io::Result<Vec<IpAddr>> {
    let configuration = std::fs::read_to_string("/etc/resolv.conf")?;
    let server = configuration.lines().find_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<IpAddr>().ok());
    let server = server.ok_or_else(|| io::Error::other("/etc/resolv.conf names no name server"))?;
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, kind, 0, 1]);
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.send_to(&question, (server, 53))?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(question.len()..length).ok_or_else(|| io::Error::other("the name server's answer is cut short"))?;
    Ok(addresses(answer))
}

/// The addresses in the records behind the question.
fn addresses(mut records: &[u8]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    // Behind its name, a record has type, class, time to live (4 bytes), length and data.
    while let Some([type_high, type_low, _, _, _, _, _, _, length_high, length_low, data @ ..]) = behind_name(records) {
        let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
        let Some((data, rest)) = data.split_at_checked(length) else { break };
        match (*type_high, *type_low) {
            (0, A) => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            (0, AAAA) => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
        records = rest;
    }
    found
}

/// What follows a name: labels up to an empty one or a pointer.
fn behind_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match bytes {
            [0, rest @ ..] | [0xc0..=0xff, _, rest @ ..] => return Some(rest),
            [length, rest @ ..] => bytes = rest.get(usize::from(*length)..)?,
            [] => return None,
        }
    }
}

fn stress(time: Duration) -> io::Result<()> {
    const MIB: usize = 1 << 20;
    let until = Instant::now() + time;
    let mut memory = vec![0_u8; 16 * MIB];
    let mut round = 0_u8;
    end_on_request()?;
    while Instant::now() < until {
        round = round.wrapping_add(1);
        for page in memory.chunks_mut(4096) {
            page[0] = page[0].wrapping_add(round);
        }
        let mut file = std::fs::File::create("/stress")?;
        file.write_all(&memory[..MIB])?;
        file.sync_all()?;
        std::process::Command::new("/proc/self/exe").args(["exit", "0"]).status()?;
    }
    Ok(())
}

fn kill(name: &str) -> io::Result<()> {
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw) else { continue };
        // A process may end while we look.
        let Ok(comm) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        if comm.trim_end() == name {
            kill_process(pid, rustix::process::Signal::KILL)?;
            println!("killed {} ({name})", pid.as_raw_nonzero());
            killed += 1;
        }
    }
    if killed > 0 { Ok(()) } else { Err(io::Error::other(format!("no process is named {name}"))) }
}
