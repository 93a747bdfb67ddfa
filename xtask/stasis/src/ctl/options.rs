//! The options of `ctl` that have a value, wherever in its command line they stand: [`find`] has
//! them for the command itself and for what a shell completes.

use std::ops::Range;

/// The options that have a value.
pub(super) const WITH_VALUE: [&str; 4] = ["--to", "--baud", "--patience", "--timeout"];

/// Returns the places of an option and its value, which is behind a space or `=`, and the value if
/// there is one.
pub(crate) fn find<'w>(name: &str, words: &'w [String]) -> Option<(Range<usize>, Option<&'w str>)> {
    let place = words.iter().position(|word| name_in(word) == Some(name))?;
    if let Some((_, value)) = words[place].split_once('=') {
        return Some((place..place + 1, Some(value)));
    }
    let value = words.get(place + 1).map(String::as_str);
    Some((place..(place + 2).min(words.len()), value))
}

/// Returns the option that has a value and that is, or begins, a word.
fn name_in(word: &str) -> Option<&str> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    WITH_VALUE.contains(&name).then_some(name)
}

/// Returns the words of a command line of `ctl` that are none of its options.
pub(crate) fn command_words(line: &[String]) -> Vec<&str> {
    let mut words = line.iter().map(String::as_str).skip_while(|word| *word != "ctl").skip(1);
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        match name_in(word) {
            Some(name) if name == word => drop(words.next()),
            Some(_) => {}
            // What begins the command is no option; behind it, there are the command's own.
            None if command.is_empty() && word.starts_with("--") => {}
            None => command.push(word),
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_its_value_behind_a_space_or_an_equals_sign() {
        let words = ["stasis", "--tokens", "--to=a", "--patience", "5", "--baud"];
        let words = words.map(String::from);
        assert_eq!(find("--to", &words), Some((2..3, Some("a"))));
        assert_eq!(find("--patience", &words), Some((3..5, Some("5"))));
        assert_eq!(find("--baud", &words), Some((5..6, None)));
        assert_eq!(find("--timeout", &words), None);
    }

    #[test]
    fn the_command_is_what_is_no_option() {
        let words = |line: &str| {
            let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
            command_words(&line).join(" ")
        };
        assert_eq!(words("stasis ctl --to unix:x --json pause linux"), "pause linux");
        assert_eq!(words("stasis ctl pause --to unix:x --baud=9600 linux"), "pause linux");
        assert_eq!(words("stasis ctl guests --json"), "guests --json");
        assert_eq!(words("stasis ctl --to"), "");
    }
}
