//! A value as YAML: block style, keys in the value's own order, texts of several lines as they are.

use serde_json::Value;

/// Prints a value. What `read_one` makes of the text is the same value again.
pub fn print(value: &Value) -> String {
    let options = serde_saphyr::ser_options! {
        compact_list_indent: false,
        // Only texts with line ends become blocks: folded texts are hard to compare and to edit.
        folded_wrap_chars: usize::MAX,
    };
    // Nothing of a JSON value can fail to print; were it so, JSON is YAML as well.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| value.to_string())
}
