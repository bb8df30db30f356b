//! Join tokens that administrators make and revoke, and the machines that have joined. Only hashes are kept.

use std::collections::BTreeSet;
use std::time::Duration;

use controlplane::client::Client;
use controlplane::secrets::join_token;
use machine::config::{Host, HostPort, Role};

use super::decide::MachineRecord;
use super::record::{self, Conflict};
use super::token::{Token, TokenRecord};
use super::{Admission, MAX_NODE_NAME, TRIES, config_token, unavailable};
use crate::clock::wall_seconds;
use crate::controllers::etcd_members::{self, Found};
use crate::controllers::pki::Keyring;
use crate::refusal::Refusal;

/// How long a token is valid unless it is said.
const USUAL: Duration = Duration::from_secs(86_400);
/// Longer than anybody may mean, short enough for every clock's arithmetic.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// For so long a machine that comes late is told that its token expired, and when.
const KEPT_AFTER_ITS_END: Duration = Duration::from_secs(7 * 86_400);

/// What a token is to be for.
#[derive(Debug, Clone)]
pub struct Purpose {
    pub role: Role,
    pub node: Option<String>,
    pub valid_for: Option<Duration>,
    /// Who makes it.
    pub by: String,
}

/// The record of a new token.
fn describe(token: &Token, purpose: Purpose, now: u64) -> Result<TokenRecord, Refusal> {
    if let Some(node) = purpose.node.as_ref().filter(|node| node.len() > MAX_NODE_NAME || !machine::config::is_dns_subdomain(node)) {
        return Err(Refusal::field("node", format!("{node:?}; expected a DNS name of at most {MAX_NODE_NAME} characters")));
    }
    let valid_for = purpose.valid_for.unwrap_or(USUAL);
    if valid_for < Duration::from_secs(1) || valid_for > LONGEST {
        return Err(Refusal::field("valid_for", format!("{} seconds; expected from a second to ten years", valid_for.as_secs())));
    }
    let expires = Some(now + valid_for.as_secs());
    Ok(TokenRecord { role: Some(purpose.role), node: purpose.node, expires, by: purpose.by, ..TokenRecord::of_config(token) })
}

impl Admission {
    /// The token as a machine shows it, and its record.
    pub async fn create_token(&self, purpose: Purpose) -> Result<(String, TokenRecord), Refusal> {
        let (_, client) = self.cluster()?;
        let secret = join_token().map_err(anyhow::Error::from)?;
        let token: Token = secret.reveal().parse().map_err(|()| anyhow::anyhow!("the new token has another form than tokens have"))?;
        let record = describe(&token, purpose, wall_seconds())?;
        sweep(&client).await.map_err(unavailable)?;
        record::write_token(&client, None, &record).await.map_err(unavailable)?;
        let words = format!("join token {} was made by {}", record.id, record.by);
        self.node.events.emit(format!("token/{}", record.id), "Created", words);
        Ok((secret.reveal().to_owned(), record))
    }

    /// Those that were made, and that of the machine config.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, Refusal> {
        let (config, client) = self.cluster()?;
        let kept = record::tokens(&client).await.map_err(unavailable)?;
        let mut tokens: Vec<TokenRecord> = kept.into_iter().map(|kept| kept.record).collect();
        if let Some(own) = config_token(&config).filter(|own| tokens.iter().all(|token| token.id != own.id))
            && !record::has_ended(&client, &own.id).await.map_err(unavailable)?
        {
            tokens.push(own);
        }
        Ok(tokens)
    }

    /// Nobody joins with it any more.
    pub async fn revoke_token(&self, id: &str, by: &str) -> Result<(), Refusal> {
        let (config, client) = self.cluster()?;
        for _ in 0..TRIES {
            let kept = record::token(&client, id).await.map_err(unavailable)?;
            let known = kept.as_ref().map(|kept| kept.record.clone()).or_else(|| config_token(&config).filter(|own| own.id == id));
            let Some(known) = known else {
                return Err(Refusal::not_found(format!("join token {id}"), "see machinectl token list"));
            };
            if known.revoked {
                return Ok(());
            }
            if settled(record::write_token(&client, kept.as_ref(), &TokenRecord { revoked: true, ..known }).await)? {
                self.node.events.emit(format!("token/{id}"), "Revoked", format!("join token {id} was revoked by {by}"));
                return Ok(());
            }
        }
        Err(busy())
    }

    pub async fn machines(&self) -> Result<Vec<MachineRecord>, Refusal> {
        let (_, client) = self.cluster()?;
        Ok(record::machines(&client).await.map_err(unavailable)?.into_iter().map(|kept| kept.record).collect())
    }

    /// A machine gets nothing any more. A control plane has to be out of etcd before: what it holds is the cluster's until then.
    pub async fn revoke_machine(&self, node: &str, by: &str) -> Result<(), Refusal> {
        let (_, client) = self.cluster()?;
        for _ in 0..TRIES {
            if settled(self.revoke(&client, node).await?)? {
                self.node.events.emit(format!("machine/{node}"), "Revoked", format!("machine {node} was revoked by {by}"));
                return Ok(());
            }
        }
        Err(busy())
    }

    async fn revoke(&self, client: &Client, node: &str) -> Result<anyhow::Result<()>, Refusal> {
        let machines = record::machines(client).await.map_err(unavailable)?;
        let Some(kept) = machines.iter().find(|kept| kept.record.node == node) else {
            return Err(Refusal::not_found(format!("machine {node}"), "see machinectl machines list"));
        };
        if kept.record.role == Role::ControlPlane {
            let seen = etcd_members::observe(&self.node, &mut Keyring::default(), None).await;
            out_of_etcd(&kept.record, &seen.found)?;
        }
        let revoked = MachineRecord { revoked: true, ..kept.record.clone() };
        Ok(record::write_machine(client, Some(kept), &revoked).await)
    }
}

/// That etcd knows no member on this machine.
fn out_of_etcd(record: &MachineRecord, found: &Found) -> Result<(), Refusal> {
    let Found::Cluster(cluster) = found else {
        let problem = format!("whether control plane {} has a member of etcd cannot be told", record.node);
        return Err(Refusal::state("ETCD_SILENT", problem, "see machinectl etcd members, and try again"));
    };
    let is_its = |url: &String| HostPort::of_https(url).is_ok_and(|url| record.addresses.iter().any(|ip| url.host == Host::Address(*ip)));
    match cluster.members.iter().find(|member| member.name == record.node || member.peer_urls.iter().any(is_its)) {
        None => Ok(()),
        Some(member) => {
            let problem = format!("control plane {} has member {} of etcd", record.node, member.id);
            let remedy = "take it out first: reset the machine, or, if it is lost, machinectl etcd remove";
            Err(Refusal::state("ETCD_MEMBER", problem, remedy))
        }
    }
}

/// Deletes what is left of tokens that ended long ago. Whoever writes at the same time does the same.
async fn sweep(client: &Client) -> anyhow::Result<()> {
    let now = wall_seconds();
    let over = |record: &TokenRecord| record.expires.is_some_and(|expires| expires.saturating_add(KEPT_AFTER_ITS_END.as_secs()) <= now);
    let kept = record::tokens(client).await?;
    let ids: BTreeSet<String> = kept.into_iter().map(|kept| kept.record).filter(over).map(|record| record.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    match record::delete_tokens(client, &ids).await {
        Err(error) if error.is::<Conflict>() => Ok(()),
        deleted => deleted,
    }
}

/// Whether it was written, and not somebody else's at the same time.
fn settled(written: anyhow::Result<()>) -> Result<bool, Refusal> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.is::<Conflict>() => Ok(false),
        Err(error) => Err(unavailable(error)),
    }
}

fn busy() -> Refusal {
    Refusal::state("BUSY", "somebody else changes the same record at the same time", "try again")
}

#[cfg(test)]
mod tests {
    use controlplane::etcd::{Member, MemberId};

    use super::*;
    use crate::admission::decide::{Asked, Credential, Known, decide};
    use crate::etcd::members::Cluster;

    fn purpose() -> Purpose {
        Purpose {
            role: Role::Worker,
            node: Some("worker-1".to_owned()),
            valid_for: Some(Duration::from_secs(3600)),
            by: "alice".to_owned(),
        }
    }

    fn token() -> Token {
        "abcdef.0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn a_new_token_lets_in_whom_it_is_for_until_it_ends() {
        let record = describe(&token(), purpose(), 1000).unwrap();
        assert!(!serde_json::to_string(&record).unwrap().contains("0123456789abcdef"));
        let address = "192.0.2.20".parse().unwrap();
        let asked = |node: &str| Asked {
            node: node.to_owned(),
            role: Role::Worker,
            addresses: vec![address],
            from: address,
            key: "key".to_owned(),
            credential: Credential::Token(Some(token())),
            proved_control_plane: false,
        };
        let known = |now, record: TokenRecord| Known { token: Some(record), now, ..Known::default() };
        assert_eq!(decide(&asked("worker-1"), &known(4599, record.clone())).unwrap().machine.token, "abcdef");
        for (node, now, record, words) in [
            ("worker-1", 4600, record.clone(), "expired 0 seconds ago"),
            ("worker-2", 1000, record.clone(), "is for node worker-1, not for worker-2"),
            ("worker-1", 1000, TokenRecord { revoked: true, ..record }, "is revoked"),
        ] {
            let refusal = decide(&asked(node), &known(now, record)).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn a_control_plane_is_revoked_once_it_is_out_of_etcd() {
        let record = MachineRecord {
            version: 1,
            node: "cp-2".to_owned(),
            role: Role::ControlPlane,
            key: String::new(),
            addresses: vec!["192.0.2.11".parse().unwrap()],
            token: String::new(),
            joined_at: 0,
            revoked: false,
        };
        let cluster = |name: &str, address: &str| {
            let peer_urls = vec![format!("https://{address}:2380")];
            let member = Member { id: MemberId(7), name: name.to_owned(), peer_urls, client_urls: Vec::new(), learner: false };
            Found::Cluster(Cluster { id: 1, members: vec![member], server: String::new() })
        };
        for (found, words) in [
            (cluster("cp-2", "192.0.2.99"), "has member 7 of etcd"),
            // It has not started yet.
            (cluster("", "192.0.2.11"), "has member 7 of etcd"),
            (Found::Silence(Vec::new()), "cannot be told"),
            (Found::NobodyToAsk, "cannot be told"),
        ] {
            let refusal = out_of_etcd(&record, &found).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
        out_of_etcd(&record, &cluster("cp-1", "192.0.2.10")).unwrap();
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mut wrong = purpose();
        wrong.node = Some("Worker 1".to_owned());
        assert!(describe(&token(), wrong, 0).unwrap_err().to_string().starts_with("node: \"Worker 1\"; expected"));
        for valid_for in [Duration::ZERO, Duration::MAX] {
            let wrong = Purpose { valid_for: Some(valid_for), ..purpose() };
            assert!(describe(&token(), wrong, u64::MAX).unwrap_err().to_string().starts_with("valid_for: "));
        }
        assert_eq!(describe(&token(), Purpose { valid_for: None, ..purpose() }, 10).unwrap().expires, Some(86_410));
    }
}
