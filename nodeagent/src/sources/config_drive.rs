//! OpenStack's config drive: a volume labelled `config-2`. <https://docs.openstack.org/nova/latest/user/metadata.html#config-drives>

use super::volume::Wanted;

pub const LABEL: &str = "config-2";

pub fn wanted() -> Wanted {
    Wanted { label: LABEL, files: &["openstack/latest/user_data"] }
}
