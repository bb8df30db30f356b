//! Where the user's files are, by the XDG base directory specification and kubectl's rules. Read from the environment once.

use std::env;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Places {
    pub client_config: PathBuf,
    /// Folder of local clusters.
    pub clusters: PathBuf,
    pub kubeconfig: PathBuf,
    pub cache: PathBuf,
}

impl Places {
    pub fn from_environment() -> Places {
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
        let config = directory("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let cache = directory("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let data = directory("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
        // A list: kubectl writes to the first file.
        let kubeconfig = env::var_os("KUBECONFIG").and_then(|list| env::split_paths(&list).find(|path| !path.as_os_str().is_empty()));
        Places {
            client_config: config.join("corten/config.yaml"),
            cache: cache.join("corten"),
            clusters: data.join("corten/clusters"),
            kubeconfig: kubeconfig.unwrap_or_else(|| home.join(".kube/config")),
        }
    }
}
