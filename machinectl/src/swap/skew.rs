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

/// A control plane's new API server, and the kubelets of workers that run until their own turn comes.
pub fn older_kubelets(new: Minor, kubelets: impl IntoIterator<Item = (String, Minor)>) -> Option<Wrong> {
    let far = |(_, kubelet): &(String, Minor)| kubelet.major == new.major && kubelet.minor + OLDER_KUBELET < new.minor;
    kubelets.into_iter().find(far).map(|(node, kubelet)| {
        let problem = format!(
            "its API server ({new}) would be more than {OLDER_KUBELET} minor versions newer than the kubelet of {node} ({kubelet})"
        );
        (problem, "upgrade that worker first, to a version that is not newer than the API servers")
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
    fn api_servers_do_not_leave_kubelets_behind() {
        let left = |new, kubelets: &[u64]| older_kubelets(v(new), kubelets.iter().map(|minor| (format!("w-{minor}"), v(*minor))));
        for (new, kubelets, allowed) in [
            (38, vec![38, 37, 36, 35], true),
            (38, vec![37, 34], false),
            (38, vec![], true),
            // A newer kubelet is what the worker's own upgrade is refused for.
            (37, vec![38], true),
        ] {
            assert_eq!(left(new, &kubelets).is_none(), allowed, "{new} {kubelets:?}");
        }
        let (problem, _) = left(38, &[34]).expect("it is refused");
        assert_eq!(problem, "its API server (1.38) would be more than 3 minor versions newer than the kubelet of w-34 (1.34)");
        assert!(older_kubelets(Minor { major: 2, minor: 0 }, [("w".to_owned(), v(37))]).is_none(), "nobody knows what a 2.0 will allow");
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
