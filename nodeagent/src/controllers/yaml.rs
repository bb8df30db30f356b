//! The one way in which the agent writes YAML.

use anyhow::Context;
use serde::Serialize;

/// Serialises `value`; long lines stay whole.
pub fn to_string<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options).context("writing YAML")
}
