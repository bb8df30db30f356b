//! Text from strangers that people will see: in an error, or in a manifest that nobody has verified yet.

/// The beginning of a text for an error that shows it, in quotes that escape what a terminal would act on.
pub fn shorten(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 80;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether a terminal shows the text as it is: no control characters (line breaks and tabs aside, where `lines` allows them), and none of
/// those that change the direction of what follows (Unicode's bidirectional controls, UAX #9).
pub fn harmless(text: &str, lines: bool) -> bool {
    text.chars().all(|c| match c {
        '\n' | '\t' => lines,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => false,
        _ => !c.is_control(),
    })
}
