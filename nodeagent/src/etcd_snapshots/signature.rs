//! Signs requests as S3-compatible storage asks for (AWS Signature Version 4,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).

use ring::hmac::{HMAC_SHA256, Key, Tag, sign};
use sha2::{Digest, Sha256};

/// Whose requests they are.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    pub access_key_id: &'a str,
    pub secret_access_key: &'a str,
    pub region: &'a str,
}

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// Encoded, from the first slash on.
    pub path: &'a str,
    /// Encoded, in order of the names.
    pub query: &'a str,
    /// Lower case, in order of the names; `host`, `x-amz-content-sha256` and `x-amz-date` among them.
    pub headers: &'a [(&'a str, &'a str)],
    pub payload_sha256: &'a str,
    /// `20130524T000000Z`
    pub time: &'a str,
}

impl Signer<'_> {
    /// The header `authorization`.
    pub fn authorization(&self, signed: &Signed<'_>) -> String {
        let names: Vec<&str> = signed.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let headers: String = signed.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let Signed { method, path, query, payload_sha256, time, .. } = signed;
        let canonical = format!("{method}\n{path}\n{query}\n{headers}\n{names}\n{payload_sha256}");
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
        let first = hmac(format!("AWS4{}", self.secret_access_key).as_bytes(), day);
        let key = [self.region, "s3", "aws4_request"].iter().fold(first, |key, part| hmac(key.as_ref(), part));
        let signature = hex::encode(hmac(key.as_ref(), &to_sign));
        format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}", self.access_key_id)
    }
}

fn hmac(key: &[u8], text: &str) -> Tag {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
}

/// A value of a query; and with `/` left alone a path.
pub fn encoded(text: &str, slash: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slash && byte == b'/');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the document above.
    #[test]
    fn examples_of_the_specification() {
        let signer = Signer {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
        };
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let time = "20130524T000000Z";
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let get = Signed {
            method: "GET",
            path: "/test.txt",
            query: "",
            headers: &[host, ("range", "bytes=0-9"), ("x-amz-content-sha256", empty), ("x-amz-date", time)],
            payload_sha256: empty,
            time,
        };
        assert!(signer.authorization(&get).ends_with("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
        let list = Signed {
            path: "/",
            query: "max-keys=2&prefix=J",
            headers: &[host, ("x-amz-content-sha256", empty), ("x-amz-date", time)],
            ..get
        };
        assert!(signer.authorization(&list).ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
    }

    #[test]
    fn paths_and_values() {
        assert_eq!(encoded("clusters/demo a~", true), "clusters/demo%20a~");
        assert_eq!(encoded("a/b+c=", false), "a%2Fb%2Bc%3D");
    }
}
