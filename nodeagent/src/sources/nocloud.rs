//! NoCloud: a volume labelled `cidata` with the file `user-data`, and a `meta-data` beside it that may name the machine.
//! <https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>

use serde::Deserialize;

use super::volume::Wanted;

pub const LABEL: &str = "cidata";
const USER_DATA: &str = "user-data";
const META_DATA: &str = "meta-data";

pub fn wanted() -> Wanted {
    Wanted { label: LABEL, files: &[USER_DATA, META_DATA] }
}

/// The machine's name in `meta-data`; what else stands there is for other systems.
pub fn hostname(meta_data: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct MetaData {
        #[serde(rename = "local-hostname")]
        local_hostname: Option<String>,
    }
    let text = std::str::from_utf8(meta_data).ok()?;
    serde_saphyr::from_str::<MetaData>(text).ok()?.local_hostname
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_and_nothing_else_matters() {
        assert_eq!(hostname(b"instance-id: i-1\nlocal-hostname: node-7\n").as_deref(), Some("node-7"));
        assert_eq!(hostname(br#"{"local-hostname": "node-7", "x": [1]}"#).as_deref(), Some("node-7"));
        for none in [&b""[..], b"instance-id: i-1\n", b"- a\n", b"local-hostname: [", b"\xff"] {
            assert_eq!(hostname(none), None, "{none:?}");
        }
    }
}
