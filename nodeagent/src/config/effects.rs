//! What a config would do to the machine, in words.

use machine::config::{Config, ProxyMode, Role};

use crate::controllers::kube_proxy::IPVS_DEPRECATED;

/// What changes between two configs; without a first one, what a machine does with its first config.
pub fn plan(from: Option<&Config>, to: &Config) -> Vec<String> {
    match from {
        Some(from) => changes(from, to),
        None => first(to),
    }
}

fn first(config: &Config) -> Vec<String> {
    let mut plan = vec!["keep the config as generation 1 on STATE", "make and open the EPHEMERAL volume"];
    if config.machine.role == Role::ControlPlane {
        plan.push("make and open the ETCD volume");
    }
    plan.push("take a certificate from the machine authority; from then on the machine API asks for client certificates");
    plan.push("start containerd, the kubelet and kube-proxy");
    if config.machine.role == Role::ControlPlane {
        plan.push("start etcd and the Kubernetes control plane once the cluster is bootstrapped");
    }
    if config.cluster.network.proxy.mode == ProxyMode::Ipvs {
        plan.push(IPVS_DEPRECATED);
    }
    plan.into_iter().map(str::to_owned).collect()
}

const SWITCH: &str =
    "take the rules of kube-proxy's mode away before it starts in the other: Services do not answer new connections meanwhile";

fn changes(from: &Config, to: &Config) -> Vec<String> {
    let (c, d) = (&from.cluster, &to.cluster);
    let (m, n) = (&from.machine, &to.machine);
    let parts = [
        (m.network != n.network, "change links, addresses, routes, name servers or time servers"),
        (m.kubelet != n.kubelet, "restart the kubelet; its pods keep running"),
        (m.registries != n.registries, "change where images are pulled from"),
        (m.kernel != n.kernel, "load kernel modules and set sysctls"),
        (m.files != n.files, "write files under /etc"),
        (m.static_pods != n.static_pods, "change static pods"),
        (m.health != n.health, "change when a new image counts as good"),
        (m.upgrade != n.upgrade, "change whose updates are taken"),
        (m.watchdog != n.watchdog, "set the watchdog's timeout"),
        (m.console != n.console, "show the dashboard on the machine's screen, or the lines of kernel and init"),
        (m.install != n.install, "nothing for the disk that the machine is installed on: install is for the next installation"),
        (c.network.proxy != d.network.proxy, "restart kube-proxy"),
        (c.network.proxy.mode != d.network.proxy.mode, SWITCH),
        (c.network.proxy.mode != d.network.proxy.mode && d.network.proxy.mode == ProxyMode::Ipvs, IPVS_DEPRECATED),
        (c.network.cni != d.network.cni || c.network.overlay != d.network.overlay, "change how pods are connected"),
        (c.network.load_balancer != d.network.load_balancer, "change which addresses Services of type LoadBalancer get"),
        (c.etcd != d.etcd, "restart etcd"),
        (c.api_server != d.api_server || c.service_account_key != d.service_account_key, "restart the API server"),
        (c.encryption_key != d.encryption_key, "restart the API server with another key for Secrets at rest"),
        (c.controller_manager != d.controller_manager, "restart the controller manager"),
        (c.scheduler != d.scheduler, "restart the scheduler"),
        (c.metrics != d.metrics, "change whether this control plane answers metrics.k8s.io"),
        (c.cloud_provider != d.cloud_provider, "restart the kubelet; only a Node that is made anew gets or loses the cloud's taint"),
        (c.manifests != d.manifests, "apply manifests to the cluster"),
        (c.allow_scheduling_on_control_planes != d.allow_scheduling_on_control_planes, "change the Node's taints"),
        (c.certificate_authorities != d.certificate_authorities, "issue certificates anew and restart what uses them"),
        (c.endpoint != d.endpoint, "change the endpoint in kubeconfigs and in the API server's certificate"),
        (c.virtual_ip != d.virtual_ip, "change the virtual IP, and the API server's certificate"),
        (c.control_planes != d.control_planes, "change which control planes the machine joins through"),
    ];
    parts.into_iter().filter(|(differs, _)| *differs).map(|(_, words)| words.to_owned()).collect()
}
