//! The Kubernetes API, for what the machine API has no word for.

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::failure::Failure;

/// As whom the kubeconfig says.
pub async fn connect(kubeconfig: &str) -> Result<kube::Client, Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::of("kubeconfig of the control plane", error);
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| failed(&error))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|error| failed(&error))?;
    // What a disruption budget refuses is told to the user, and asked again here.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|error| failed(&error))
}
