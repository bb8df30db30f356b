//! The URL that the kernel command line names: `corten.config=http://192.0.2.1/cp.yaml`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::Context;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::body::Bytes;
use rustls::pki_types::ServerName;

use super::answer::content;
use super::fetch::{Deadlines, Server, fetch};
use super::trust;
use crate::names;
use crate::node::Node;

/// An http or https URL without a user in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// Name or address, an IPv6 address without brackets.
    host: String,
    port: Option<u16>,
    path: PathAndQuery,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}; expected a URL such as http://192.0.2.1/cp.yaml or https://boot.example.com/cp.yaml")]
pub struct BadUrl {
    text: String,
    problem: &'static str,
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Url, BadUrl> {
        let bad = |problem| BadUrl { text: text.to_owned(), problem };
        let parts = text.parse::<Uri>().map_err(|_| bad("is no URL"))?.into_parts();
        let https = match parts.scheme.as_ref().map(|scheme| scheme.as_str()) {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(bad("is no http or https URL")),
        };
        let authority = parts.authority.ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            // Not repeated: the message is for everybody.
            return Err(BadUrl { text: format!("{}://...@...", if https { "https" } else { "http" }), problem: "carries a user" });
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16();
        if host.is_empty() || (authority.as_str().rsplit(']').next().unwrap_or_default().contains(':') && port.is_none()) {
            return Err(bad("names no host, or a port that is none"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Url { https, host, port, path })
    }
}

/// Without the query, which may hold a token.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path.path())
    }
}

impl Url {
    /// What stands in the header Host.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    fn request(&self) -> http::Result<Request<Empty<Bytes>>> {
        Request::get(Uri::from(self.path.clone())).header(HOST, self.authority()).body(Empty::new())
    }

    /// What the URL holds; `None` where its server says that there is nothing.
    pub async fn ask(&self, node: &Node, deadlines: Deadlines) -> anyhow::Result<Option<Bytes>> {
        let tls = if self.https { Some((trust::authorities(&node.root, None)?, ServerName::try_from(self.host.clone())?)) } else { None };
        let found = names::addresses(node, &self.host).await?;
        let port = self.port.unwrap_or(if self.https { 443 } else { 80 });
        let address = SocketAddr::new(*found.first().context("no address")?, port);
        let answer = fetch(&Server { address, tls }, self.request()?, deadlines).await?;
        Ok(content(answer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown, authority) in [
            ("http://192.0.2.1/cp.yaml", "http://192.0.2.1/cp.yaml", "192.0.2.1"),
            ("https://boot.example.com:8443/a?token=secret", "https://boot.example.com:8443/a", "boot.example.com:8443"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080/", "[2001:db8::1]:8080"),
            ("http://[2001:db8::1]/x", "http://[2001:db8::1]/x", "[2001:db8::1]"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.authority().as_str()), (shown, authority));
            let request = url.request().unwrap();
            assert_eq!(request.headers()[HOST], authority);
            assert!(text.ends_with(&request.uri().to_string()) || request.uri() == "/", "{}", request.uri());
        }
    }

    #[test]
    fn what_is_no_url_is_named() {
        for (text, problem) in [
            ("", "no URL"),
            ("cp.yaml", "no http"),
            ("/cp.yaml", "no http"),
            ("ftp://192.0.2.1/cp.yaml", "no http"),
            ("http://alice:secret@192.0.2.1/", "a user"),
            ("http://192.0.2.1:99999/", "port"),
            ("http:///cp.yaml", "no URL"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("expected a URL") && !error.contains("secret"), "{error}");
        }
    }
}
