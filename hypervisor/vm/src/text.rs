//! Shows words that came from outside: in quotes, cut short, with nothing in them that a terminal would obey.

use alloc::string::String;

/// Longer words are cut.
const SHOWN: usize = 40;

/// `word` for an error line.
pub fn quoted(word: &str) -> String {
    let mut shown = String::from("\"");
    shown.extend(word.chars().take(SHOWN).flat_map(char::escape_debug));
    if word.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown.push('"');
    shown
}
