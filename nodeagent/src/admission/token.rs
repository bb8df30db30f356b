//! Join tokens: `<id>.<secret>`. The cluster keeps only the secret's hash.

use std::fmt;
use std::str::FromStr;

use machine::config::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// As a machine shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    secret: String,
}

impl FromStr for Token {
    type Err = ();
    fn from_str(text: &str) -> Result<Token, ()> {
        let legal =
            |part: &str, length| part.len() == length && part.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit());
        match text.split_once('.') {
            Some((id, secret)) if legal(id, 6) && legal(secret, 16) => Ok(Token { id: id.to_owned(), secret: secret.to_owned() }),
            _ => Err(()),
        }
    }
}

impl Token {
    /// SHA-256 of the secret, in hexadecimal. It is random and long: nobody finds it by its hash.
    pub fn hash(&self) -> String {
        hex::encode(Sha256::digest(&self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.********)", self.id)
    }
}

/// As the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRecord {
    /// Always 1.
    pub version: u32,
    pub id: String,
    pub hash: String,
    /// What machines become that show it; `None`: what their proof says.
    pub role: Option<Role>,
    /// The only node that it is for; none: any whose name is free.
    pub node: Option<String>,
    /// Seconds since the epoch; none: it stays valid.
    pub expires: Option<u64>,
    pub revoked: bool,
    /// Who made it; empty for the one of the machine config.
    pub by: String,
}

impl TokenRecord {
    /// The machine config's: for workers, and for control planes that prove it.
    pub fn of_config(token: &Token) -> TokenRecord {
        let (id, hash) = (token.id.clone(), token.hash());
        TokenRecord { version: 1, id, hash, role: None, node: None, expires: None, revoked: false, by: String::new() }
    }
}
