//! Which machine of its cloud this one is.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// One object, `instance`, on machines of a cloud whose cluster has an external cloud provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudInstance {
    pub platform: String,
    /// As the cloud's controller names it: `aws:///eu-central-1a/i-0123456789abcdef0`.
    #[serde(rename = "providerID")]
    pub provider_id: String,
}

impl Resource for CloudInstance {
    const KIND: &'static str = "cloudinstances";
}

impl CloudInstance {
    /// Name of the only one.
    pub const NAME: &'static str = "instance";
}
