//! Which minor versions of Kubernetes' parts may run together: <https://kubernetes.io/releases/version-skew-policy/>. An image has one
//! version of all of them, so a control plane's API server is as old as its kubelet.

use machine::version::Minor;

/// How many minor versions a kubelet may be older than an API server.
const OLDER_KUBELET: u64 = 3;
/// How many minor versions API servers of one cluster may lie apart, and how far an upgrade of one may go.
const APART: u64 = 1;

/// What is wrong, and what to do.
type Wrong = (String, &'static str);

/// A worker's new kubelet, and the API servers that there will be then.
pub fn kubelet(new: Minor, api_servers: impl IntoIterator<Item = Minor>) -> Option<Wrong> {
    api_servers.into_iter().find_map(|server| match () {
        () if new > server => {
            Some((format!("its kubelet ({new}) would be newer than an API server ({server})"), "upgrade the control planes first"))
        }
        () if new.major == server.major && new.minor + OLDER_KUBELET < server.minor => {
            let problem =
                format!("its kubelet ({new}) would be more than {OLDER_KUBELET} minor versions older than an API server ({server})");
            Some((problem, "take a newer image for it"))
        }
        () => None,
    })
}

/// A control plane's new API server, and those that there are, its own among them: none may be skipped.
pub fn api_server(new: Minor, running: impl IntoIterator<Item = Minor>) -> Option<Wrong> {
    let far = |other: &Minor| new.major != other.major || new.minor.abs_diff(other.minor) > APART;
    running.into_iter().find(far).map(|other| {
        let problem = format!("its API server ({new}) would be more than {APART} minor version apart from one that runs ({other})");
        (problem, "take all control planes through each minor version in between")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(minor: u64) -> Minor {
        Minor { major: 1, minor }
    }

    #[test]
    fn kubelets_are_not_newer_and_not_much_older_than_api_servers() {
        for (new, servers, allowed) in [
            (37, vec![37, 37], true),
            (36, vec![37, 38], true),
            (34, vec![37], true),
            (33, vec![37], false),
            (38, vec![38, 37], false),
            (37, vec![], true),
        ] {
            assert_eq!(kubelet(v(new), servers.iter().copied().map(v)).is_none(), allowed, "{new} {servers:?}");
        }
    }

    #[test]
    fn api_servers_are_one_minor_apart_at_most() {
        for (new, others, allowed) in
            [(38, vec![37, 37], true), (37, vec![38], true), (39, vec![38, 37], false), (36, vec![38], false), (40, vec![], true)]
        {
            assert_eq!(api_server(v(new), others.iter().copied().map(v)).is_none(), allowed, "{new} {others:?}");
        }
    }
}
