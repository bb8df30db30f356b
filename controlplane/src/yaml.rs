//! The one way in which this crate writes YAML, and reads YAML that holds secrets.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Serialises `value`; long lines stay whole, text of several lines is a literal block.
pub(crate) fn to_string<T: Serialize>(value: &T) -> Result<String, serde_saphyr::SerializeError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(value, options)
}

/// Reads a value; the error says where, but does not show the text: there may be a key.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
}
