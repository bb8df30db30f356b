//! The kinds of objects that clients may list, with the columns of their tables. A kind that is not here is not shown to anybody.

/// A kind as clients see it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Plural, as users type it.
    pub name: &'static str,
    pub description: &'static str,
    /// Heading and dotted path, from `spec` or `status` on.
    pub columns: &'static [(&'static str, &'static str)],
    /// Whether only admins see it.
    pub sensitive: bool,
    /// Whether its objects say what is wanted; the others say what is seen.
    pub wanted: bool,
}

const fn seen(name: &'static str, description: &'static str, columns: &'static [(&'static str, &'static str)]) -> Kind {
    Kind { name, description, columns, sensitive: false, wanted: false }
}

/// Every kind, by name.
pub const KINDS: &[Kind] = &[
    seen(
        "addresses",
        "Addresses of the machine's links.",
        &[("LINK", "status.link"), ("ADDRESS", "status.address"), ("OWNED", "status.owned"), ("STATE", "status.state")],
    ),
    seen("advertisedresolvers", "Name servers that routers on a link tell of.", &[("NAMESERVERS", "status.nameservers")]),
    seen("apiservermembers", "API servers that are members of the cluster.", &[("ADDRESSES", "status.addresses")]),
    seen(
        "apiservers",
        "API servers as the local balancer sees them.",
        &[("READY", "status.ready"), ("LOCAL", "status.local"), ("ERROR", "status.error")],
    ),
    seen(
        "auditsinks",
        "Where the audit log goes, and how far each has got.",
        &[("URL", "status.url"), ("DELIVERED", "status.delivered"), ("ERROR", "status.error")],
    ),
    seen(
        "authorities",
        "The cluster's authorities as this machine has them, and how far it follows where one takes another's place.",
        &[
            ("PHASE", "status.phase"),
            ("ISSUES", "status.subject"),
            ("ACCEPTS", "status.accepts"),
            ("KEY", "status.key"),
            ("NOT AFTER", "status.notAfter"),
            ("WAITS FOR", "status.waitsFor"),
        ],
    ),
    seen(
        "authoritykeys",
        "Authorities whose keys this control plane got from another one.",
        &[("SUBJECT", "status.subject"), ("NOT AFTER", "status.notAfter"), ("FINGERPRINT", "status.fingerprint")],
    ),
    seen(
        "bootfacts",
        "What init found in this boot, and what it did step by step.",
        &[("SLOT", "status.slot"), ("ENTRY", "status.entry"), ("COUNTED", "status.counted"), ("DISK", "status.disk")],
    ),
    seen(
        "boots",
        "The machine's last boots, and how each ended.",
        &[
            ("SLOT", "status.slot"),
            ("VERSION", "status.imageVersion"),
            ("STARTED", "status.startedAt"),
            ("ENDED", "status.ended"),
            ("REASON", "status.reason"),
        ],
    ),
    seen(
        "bootstraps",
        "How this control plane came to its etcd member.",
        &[("CLUSTER", "status.cluster"), ("PROGRESS", "status.progress"), ("AT", "status.at"), ("BY", "status.by")],
    ),
    seen(
        "certificates",
        "Certificates that the machine keeps.",
        &[
            ("SUBJECT", "status.subject"),
            ("AUTHORITY", "status.authority"),
            ("NOT AFTER", "status.notAfter"),
            ("RENEWAL", "status.renewal"),
        ],
    ),
    seen(
        "cloudinstances",
        "Which machine of its cloud this one is.",
        &[("PLATFORM", "status.platform"), ("PROVIDER ID", "status.providerID")],
    ),
    seen(
        "clusternodes",
        "Nodes of the cluster, as far as this machine has to know them.",
        &[
            ("READY", "status.ready"),
            ("POD CIDRS", "status.podCIDRs"),
            ("ADDRESSES", "status.addresses"),
            ("BACKEND", "status.announcement.backend"),
            ("PROBLEM", "status.problem"),
        ],
    ),
    seen(
        "configsources",
        "Where a machine in maintenance looks for its first config.",
        &[
            ("RESULT", "status.result"),
            ("PLACE", "status.place"),
            ("TRIED AT", "status.triedAt"),
            ("TRIES", "status.tries"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen(
        "controllers",
        "What the agent's controllers are doing.",
        &[("STATE", "status.state"), ("WAITS FOR", "status.waitsFor"), ("ERROR", "status.error")],
    ),
    seen(
        "disks",
        "Disks that the machine has; one of them may be named in machine.install.disk.",
        &[
            ("PATH", "status.path"),
            ("TYPE", "status.type"),
            ("SIZE", "status.sizeBytes"),
            ("SERIAL", "status.serial"),
            ("WWN", "status.wwn"),
            ("MODEL", "status.model"),
            ("HOLDS", "status.holds"),
            ("USED AS", "status.usedAs"),
        ],
    ),
    seen(
        "dnsscales",
        "How many replicas the cluster's DNS has, and who decides.",
        &[("REPLICAS", "status.replicas"), ("FITTING", "status.fitting"), ("DECIDED BY", "status.decidedBy"), ("NODES", "status.nodes")],
    ),
    seen(
        "duplicates",
        "Addresses of the machine's links that another machine has too.",
        &[("LINK", "status.link"), ("ADDRESS", "status.address"), ("OTHER MACHINE", "status.hardwareAddress"), ("USED", "status.used")],
    ),
    seen(
        "etcdmembers",
        "Members of etcd's cluster, as this control plane sees them.",
        &[
            ("ID", "status.id"),
            ("ROLE", "status.role"),
            ("HEALTHY", "status.healthy"),
            ("VERSION", "status.version"),
            ("PEERS", "status.peerUrls"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen(
        "etcdrepairs",
        "What is being done with this machine's member of etcd at somebody's word.",
        &[("REPAIR", "status.repair"), ("BY", "status.by"), ("AT", "status.at")],
    ),
    seen(
        "etcdsnapshots",
        "Snapshots of etcd that this control plane takes by itself.",
        &[
            ("PLACE", "status.place"),
            ("LAST", "status.last"),
            ("KEPT", "status.kept"),
            ("NEXT IN SECONDS", "status.nextInSeconds"),
            ("ERROR", "status.error"),
        ],
    ),
    seen(
        "firewallrules",
        "What may come in from outside, where the firewall denies the rest.",
        &[("PROTOCOL", "status.protocol"), ("PORTS", "status.ports"), ("FROM", "status.from"), ("PURPOSE", "status.purpose")],
    ),
    seen(
        "gates",
        "How far the image that is on trial has come with its proof.",
        &[
            ("STATE", "status.state"),
            ("WAITS FOR", "status.waitsFor"),
            ("EXCUSED", "status.excused"),
            ("GOOD SINCE S", "status.goodSinceSeconds"),
            ("DEADLINE S", "status.deadlineSeconds"),
        ],
    ),
    seen("health", "Checks of the machine's health.", &[("PASSED", "status.passed"), ("MESSAGE", "status.message")]),
    seen("hostnames", "The machine's name.", &[("HOSTNAME", "status.hostname"), ("SOURCE", "status.source")]),
    seen("imagearchives", "Container images that came with the machine's own image.", &[("IMPORTED", "status.imported")]),
    seen(
        "installations",
        "Installations on a disk in this boot.",
        &[("VERSION", "status.version"), ("PHASE", "status.phase"), ("MESSAGE", "status.message")],
    ),
    seen(
        "joins",
        "How this machine stands with the cluster that it joins.",
        &[
            ("STATE", "status.state"),
            ("REASON", "status.reason"),
            ("MESSAGE", "status.message"),
            ("THROUGH", "status.through"),
            ("TRIES", "status.tries"),
            ("RETRY AT", "status.retryAt"),
        ],
    ),
    seen("leases", "What DHCP servers gave.", &[("ADDRESS", "status.address"), ("SERVER", "status.server"), ("SECONDS", "status.seconds")]),
    seen(
        "links",
        "Network devices.",
        &[
            ("KIND", "status.kind"),
            ("UP", "status.up"),
            ("CARRIER", "status.carrier"),
            ("MTU", "status.mtu"),
            ("MASTER", "status.master"),
            ("PARENT", "status.vlan.parent"),
            ("VLAN", "status.vlan.id"),
            ("BOND MODE", "status.bond.mode"),
            ("ACTIVE", "status.bond.activeMember"),
            ("HARDWARE ADDRESS", "status.hardwareAddress"),
        ],
    ),
    seen(
        "loadbalanceraddresses",
        "Addresses of Services of type LoadBalancer, and who announces them.",
        &[("SERVICE", "status.service"), ("NODE", "status.node"), ("STATE", "status.state"), ("LINK", "status.link")],
    ),
    seen("localresolvers", "The machine's own name server, while it listens.", &[("ADDRESSES", "status.addresses")]),
    seen(
        "machines",
        "This machine: its stage and its config.",
        &[("STAGE", "status.stage"), ("GENERATION", "status.generation"), ("WAITS FOR", "status.waitsFor")],
    ),
    seen(
        "manifests",
        "Objects that this control plane applied to the cluster, Corten's own and those of cluster.manifests.",
        &[("MANIFEST", "status.manifest"), ("STATE", "status.state"), ("TRIES", "status.tries"), ("MESSAGE", "status.message")],
    ),
    seen(
        "manifestsets",
        "All manifests together, once Corten's own are applied.",
        &[("OBJECTS", "status.objects"), ("PRUNED", "status.pruned"), ("DIGEST", "status.digest")],
    ),
    seen(
        "metricsapis",
        "The APIs metrics.k8s.io and custom.metrics.k8s.io, and who answers them.",
        &[("SERVED BY", "status.servedBy"), ("MESSAGE", "status.message")],
    ),
    seen("metricsservers", "Agents that answer metrics.k8s.io, as this one knows them.", &[("STATE", "status.state")]),
    seen(
        "neighbours",
        "Machines on the machine's links, as the kernel remembers them.",
        &[
            ("LINK", "status.link"),
            ("ADDRESS", "status.address"),
            ("HARDWARE ADDRESS", "status.hardwareAddress"),
            ("STATE", "status.state"),
        ],
    ),
    seen(
        "networkpolicies",
        "The cluster's network policies, and whom of this machine's pods they are about.",
        &[
            ("STATE", "status.state"),
            ("INGRESS", "status.ingress"),
            ("EGRESS", "status.egress"),
            ("PODS", "status.pods"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen("nodeips", "Addresses under which Kubernetes knows the machine.", &[("ADDRESSES", "status.addresses")]),
    seen(
        "nodes",
        "This machine's Node in Kubernetes.",
        &[("READY", "status.ready"), ("VERSION", "status.kubeletVersion"), ("MESSAGE", "status.message")],
    ),
    seen(
        "overlaypaths",
        "How packets fare on the way to other Nodes and back.",
        &[
            ("LATENCY US", "status.latencyMicros"),
            ("WORST US", "status.worstMicros"),
            ("LOSS %", "status.lossPercent"),
            ("TRIES", "status.tries"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen(
        "overlaypeers",
        "Other Nodes, and how their pods are reached.",
        &[
            ("STATE", "status.state"),
            ("POD CIDRS", "status.podCIDRs"),
            ("ADDRESSES", "status.addresses"),
            ("BACKEND", "status.backend"),
            ("BY", "status.by"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen(
        "overlays",
        "This machine's ends of the overlay, by device.",
        &[
            ("BACKEND", "status.backend"),
            ("ADDRESS", "status.address"),
            ("HARDWARE ADDRESS", "status.hardwareAddress"),
            ("PUBLIC KEY", "status.publicKey"),
            ("PORT", "status.port"),
            ("MTU", "status.mtu"),
        ],
    ),
    seen(
        "pressures",
        "Whether tasks of the machine stand still for want of a resource.",
        &[
            ("STATE", "status.state"),
            ("SINCE", "status.since"),
            ("THRESHOLD", "status.threshold"),
            ("TIMES", "status.times"),
            ("MESSAGE", "status.message"),
        ],
    ),
    seen(
        "rebalancing",
        "What control planes do for nodes under lasting pressure.",
        &[
            ("MODE", "status.mode"),
            ("LEADER", "status.leader"),
            ("EVICTED", "status.evicted"),
            ("NOW", "status.doing"),
            ("LAST", "status.last"),
        ],
    ),
    seen("resolvers", "Name servers in force.", &[("NAMESERVERS", "status.nameservers")]),
    seen(
        "routes",
        "Routes of the main table, and the machine config's in others.",
        &[("LINK", "status.link"), ("TO", "status.to"), ("VIA", "status.via"), ("METRIC", "status.metric"), ("TABLE", "status.table")],
    ),
    seen(
        "rules",
        "The machine config's rules that choose between tables of routes.",
        &[
            ("PRIORITY", "status.priority"),
            ("FROM", "status.from"),
            ("TO", "status.to"),
            ("INTERFACE", "status.interface"),
            ("MARK", "status.mark"),
            ("MASK", "status.mask"),
            ("TABLE", "status.table"),
        ],
    ),
    seen(
        "scores",
        "How well each node would do with one more pod, on control planes: 0 to 10.",
        &[
            ("SCORE", "status.score"),
            ("HEADROOM", "status.headroom"),
            ("CALM", "status.calm"),
            ("CPU", "status.cpu"),
            ("MEMORY", "status.memory"),
            ("CPU SOME", "status.cpuSome"),
            ("MEMORY FULL", "status.memoryFull"),
            ("IO FULL", "status.ioFull"),
            ("PENDING CPUS", "status.pendingCpus"),
            ("STALE", "status.stale"),
        ],
    ),
    seen(
        "security",
        "How this boot was checked and measured.",
        &[("SECURE BOOT", "status.secureBoot"), ("LOCKDOWN", "status.lockdown"), ("TPM", "status.tpm"), ("PCR 11", "status.pcr11")],
    ),
    seen(
        "services",
        "Services as init sees them.",
        &[("STATE", "status.state"), ("PID", "status.pid"), ("RESTARTS", "status.restarts"), ("LAST EXIT", "status.lastExit")],
    ),
    Kind {
        name: "servicespecs",
        description: "How init is to run each service.",
        columns: &[("PROGRAM", "spec.program"), ("ACCOUNT", "spec.account"), ("SLICE", "spec.slice")],
        // Arguments and environments may hold what users put there.
        sensitive: true,
        wanted: true,
    },
    seen(
        "signingrequests",
        "Requests for kubelets' certificates that nobody has decided yet.",
        &[("SIGNER", "status.signer"), ("USER", "status.user"), ("USAGES", "status.usages")],
    ),
    seen(
        "slots",
        "What the two places for an image hold.",
        &[
            ("RUNNING", "status.running"),
            ("VERSION", "status.version"),
            ("BLESSED", "status.blessed"),
            ("TRIES LEFT", "status.triesLeft"),
            ("ENTRY", "status.entry"),
            ("GENERATION", "status.generation"),
        ],
    ),
    seen(
        "sockets",
        "Sockets that wait for others to speak: TCP that listens, UDP without another end.",
        &[
            ("PROTOCOL", "status.protocol"),
            ("ADDRESS", "status.address"),
            ("PORT", "status.port"),
            ("OWNER", "status.owner"),
            ("PROGRAM", "status.program"),
            ("PID", "status.pid"),
        ],
    ),
    seen(
        "staterecords",
        "Records on STATE that a newer release wrote and this image does not read.",
        &[("WHAT", "status.what"), ("VERSION", "status.version"), ("READS", "status.reads"), ("EFFECT", "status.effect")],
    ),
    seen(
        "timestatus",
        "How the clock stands to the world's.",
        &[
            ("SYNCHRONIZED", "status.synchronized"),
            ("SERVER", "status.server"),
            ("OFFSET MS", "status.offsetMilliseconds"),
            ("ERROR", "status.error"),
        ],
    ),
    seen(
        "upgrades",
        "What came of each upgrade and rollback.",
        &[
            ("FROM", "status.fromVersion"),
            ("TO", "status.toVersion"),
            ("PHASE", "status.phase"),
            ("BOOTS", "status.boots"),
            ("CHECK", "status.reason.check"),
            ("MESSAGE", "status.reason.message"),
        ],
    ),
    seen(
        "virtualips",
        "The address that the control planes hold in turn.",
        &[("HOLDER", "status.holder"), ("HELD HERE", "status.held"), ("LINK", "status.link")],
    ),
    seen(
        "volumes",
        "Volumes of the machine's disk.",
        &[("STATE", "status.state"), ("SIZE", "status.sizeBytes"), ("DEVICE", "status.device"), ("REASON", "status.reason")],
    ),
];

pub fn find(name: &str) -> Option<&'static Kind> {
    KINDS.binary_search_by_key(&name, |kind| kind.name).ok().map(|index| &KINDS[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_sorted_and_their_columns_point_into_their_own_half() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        for kind in KINDS {
            let half = if kind.wanted { "spec." } else { "status." };
            assert!(kind.columns.iter().all(|(_, path)| path.starts_with(half)), "{}", kind.name);
            assert_eq!(find(kind.name).map(|found| found.name), Some(kind.name));
        }
        assert!(find("secrets").is_none());
    }

    /// Every type that goes on the board is shown: a kind that was forgotten here would be invisible.
    #[test]
    fn every_resource_is_listed() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut missing = Vec::new();
        each_file(&source, &mut |text| {
            // Tests have kinds of their own.
            let production = text.split("#[cfg(test)]").next().unwrap_or_default();
            for line in production.lines().filter(|line| line.contains("const KIND: &'static str = ")) {
                let name = line.split('"').nth(1).unwrap_or_default();
                if find(name).is_none() {
                    missing.push(name.to_owned());
                }
            }
        });
        assert_eq!(missing, Vec::<String>::new(), "not in KINDS");
    }

    fn each_file(directory: &std::path::Path, see: &mut impl FnMut(&str)) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                each_file(&path, see);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                see(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
}
