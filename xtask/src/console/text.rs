//! Turns the bytes of a terminal into text.

use super::PROMPT;

/// Returns the offset at which `wanted` begins.
pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Returns a line as a person sees it on a terminal: without control sequences, overwritten
/// characters, and our prompt.
pub(super) fn clean(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let mut visible = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                // A CSI sequence ends with a letter; any other sequence has one character.
                if characters.next() == Some('[') {
                    characters.find(char::is_ascii_alphabetic);
                }
            }
            '\r' => visible.clear(),
            c if c.is_control() && c != '\t' => {}
            c => visible.push(c),
        }
    }
    visible.trim_start_matches(PROMPT).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cleaned_as_a_terminal_would_show_them() {
        assert_eq!(clean("stasis> \x1b[1mbold\x1b[0m \r\n"), "bold");
        assert_eq!(clean(" 10%\r 20%\r\n"), " 20%");
    }
}
