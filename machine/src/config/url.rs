//! A URL that the machine asks: `http` or `https`, a host, and a path.

use std::str::FromStr;

use super::address::{BadAddress, HostPort};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`
    pub tls: bool,
    pub server: HostPort,
    /// The host as it was written, with its port if it had one: the request's `Host`.
    pub authority: String,
    /// Path and query, from the first slash on.
    pub target: String,
}

impl FromStr for Url {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Url, BadAddress> {
        let wrong = || BadAddress("a URL, such as http://127.0.0.1:8080/healthz");
        let (tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        // Only an address in brackets has colons besides the port's.
        let ported = authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && !port.contains(']'));
        let with_port = if ported { authority.to_owned() } else { format!("{authority}:{}", if tls { 443 } else { 80 }) };
        let legal = target.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'\\' | b'<' | b'>'));
        let server = with_port.parse().ok().filter(|_| legal).ok_or_else(wrong)?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Url { tls, server, authority: authority.to_owned(), target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (bool, String, String, String) {
        let url: Url = text.parse().unwrap();
        (url.tls, url.server.to_string(), url.authority, url.target)
    }

    #[test]
    fn urls_with_and_without_port_and_path() {
        let expected = |tls, server: &str, authority: &str, target: &str| (tls, server.to_owned(), authority.to_owned(), target.to_owned());
        assert_eq!(parts("http://127.0.0.1:8080/healthz?full=1"), expected(false, "127.0.0.1:8080", "127.0.0.1:8080", "/healthz?full=1"));
        assert_eq!(parts("https://app.example.com"), expected(true, "app.example.com:443", "app.example.com", "/"));
        assert_eq!(parts("http://[::1]/x"), expected(false, "[::1]:80", "[::1]", "/x"));
        assert_eq!(parts("http://[::1]:81?q"), expected(false, "[::1]:81", "[::1]:81", "/?q"));
        for text in [
            "",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://a/ b",
            "http://u@a/",
            "http://::1/",
            "http://a:x/",
            "http://a/#b",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
