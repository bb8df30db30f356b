//! The one way in which this crate writes YAML.

use serde::Serialize;

/// Serialises `value`; long lines stay whole, text of several lines is a literal block.
pub(crate) fn to_string<T: Serialize>(value: &T) -> Result<String, serde_saphyr::SerializeError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options)
}
