//! Which version etcd's cluster behaves as and its storage has, and etcd's own way to have them one minor version lower: what its docs call
//! a downgrade (<https://etcd.io/docs/v3.7/downgrades/downgrade_3_7/>). From then on the version before can run on the data.

use machine::version::Minor;
use tonic::{Code, Status};

use super::{Access, ask};

const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";

/// What one etcd says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of the program.
    pub server: Minor,
    /// Of what lies on the disk; none from etcd before 3.6, which does not note it.
    pub storage: Option<Minor>,
    /// What the cluster is held to, where a downgrade was enabled.
    pub held: Option<Minor>,
}

/// etcdserverpb.StatusRequest: empty.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

/// etcdserverpb.StatusResponse, without what is not needed of it.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "11")]
    storage_version: String,
    #[prost(message, optional, tag = "13")]
    downgrade_info: Option<DowngradeInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DowngradeInfo {
    #[prost(bool, tag = "1")]
    enabled: bool,
    #[prost(string, tag = "2")]
    target_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DowngradeRequest {
    /// One of the three below.
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    version: String,
}

const VALIDATE: i32 = 0;
const ENABLE: i32 = 1;
const CANCEL: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct DowngradeResponse {}

pub async fn versions(access: Access<'_>) -> anyhow::Result<Versions> {
    let status: StatusResponse = ask(access, STATUS, StatusRequest {}).await?;
    let target = status.downgrade_info.filter(|info| info.enabled).map(|info| info.target_version.parse()).transpose()?;
    Ok(Versions { server: status.version.parse()?, storage: status.storage_version.parse().ok(), held: target })
}

/// Whether [`enable_downgrade`] would be taken now: etcd takes only the minor version before the one that the cluster has.
pub async fn may_downgrade(access: Access<'_>, to: Minor) -> anyhow::Result<bool> {
    match downgrade(access, VALIDATE, to.to_string()).await {
        Ok(()) => Ok(true),
        Err(error) => match error.downcast_ref::<Status>().map(Status::code) {
            Some(Code::InvalidArgument | Code::FailedPrecondition) => Ok(false),
            _ => Err(error),
        },
    }
}

/// Has the cluster behave as this version, and each member's storage be readable to it.
pub async fn enable_downgrade(access: Access<'_>, to: Minor) -> anyhow::Result<()> {
    downgrade(access, ENABLE, to.to_string()).await
}

/// Lets the cluster be what its members are.
pub async fn cancel_downgrade(access: Access<'_>) -> anyhow::Result<()> {
    downgrade(access, CANCEL, String::new()).await
}

async fn downgrade(access: Access<'_>, action: i32, version: String) -> anyhow::Result<()> {
    ask(access, DOWNGRADE, DowngradeRequest { action, version }).await.map(|_: DowngradeResponse| ())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::played::Etcd;
    use super::*;

    async fn until(etcd: &Etcd, what: &str, done: impl Fn(&Versions) -> bool) -> Versions {
        let seen = async {
            loop {
                if let Ok(found) = versions(etcd.access()).await
                    && done(&found)
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), seen).await.unwrap_or_else(|_| panic!("{what}:\n{}", etcd.log()))
    }

    /// A new etcd whose data stays readable to the one before it, across a restart, until it is let go.
    #[tokio::test]
    async fn a_real_etcd_is_held_and_let_go() {
        let mut etcd = Etcd::start();
        let own = until(&etcd, "it has storage of its own version", |versions| versions.storage == Some(versions.server)).await;
        let before = own.server.previous().unwrap();
        assert_eq!(own.held, None);
        let mut may = Vec::new();
        for version in [own.server, before, before.previous().unwrap()] {
            may.push(may_downgrade(etcd.access(), version).await.unwrap());
        }
        assert_eq!(may, [false, true, false]);
        let error = enable_downgrade(etcd.access(), before.previous().unwrap()).await.unwrap_err();
        assert!(format!("{error:#}").contains("invalid downgrade target version"), "{error:#}");

        enable_downgrade(etcd.access(), before).await.unwrap();
        let held = until(&etcd, "its storage is the old one's", |versions| versions.storage == Some(before)).await;
        assert_eq!(held, Versions { server: own.server, storage: Some(before), held: Some(before) });
        // Killed, it may lose the last tenths of a second of its storage, but nothing that the cluster agreed on.
        etcd.restart();
        assert_eq!(until(&etcd, "it is held after a restart", |versions| versions.storage == Some(before)).await, held);

        cancel_downgrade(etcd.access()).await.unwrap();
        assert_eq!(until(&etcd, "its storage is its own", |versions| versions.storage == Some(own.server)).await, own);
    }
}
