//! A web server on the loopback that has one file: an archive mirror.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// Serves `content` at every path that ends with `name`, for as long as the test runs. Returns the base address.
pub fn serve(name: &str, content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/archive", listener.local_addr().unwrap());
    let name = name.to_owned();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let mut request = String::new();
            let _ = reader.read_line(&mut request);
            let mut header = String::new();
            while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
                header.clear();
            }
            let found = request.split_whitespace().nth(1).is_some_and(|path| path.ends_with(&name));
            let (status, body) = if found { ("200 OK", content.as_slice()) } else { ("404 Not Found", [].as_slice()) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body));
        }
    });
    address
}
