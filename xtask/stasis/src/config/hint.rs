//! Hints for a configuration that was written wrong: the errors of the TOML parser in the words of
//! this configuration.

use std::ops::Range;

use crate::suggest::nearest;

/// Keys whose value is a time. The other keys whose value is a text with a number are sizes.
const TIMES: [&str; 6] = ["watchdog", "checkpoint-every", "frame", "at", "length", "well-after"];

/// Tables of which there can be several.
const TABLES: [&str; 4] = ["guest", "core", "shared", "network"];

/// Returns the line of an error, its number and its text, and what to do, all in one line.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    let number = error.span().map_or(1, |span: Range<usize>| line_number(text, span.start));
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim());
    let place = key.map(|key| format!(": {key}")).unwrap_or_default();
    let message = error.message();
    let advice = single_table(line)
        .or_else(|| several_tables(line))
        .or_else(|| unknown_key(message))
        .or_else(|| number_for_text(key?, message))
        .unwrap_or_else(|| message.to_owned());
    format!("line {number}{place}: {advice}")
}

/// Returns the number of the line that has the byte at `offset`.
pub fn line_number(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

/// Returns the hint for `[guest]` in the place of `[[guest]]`, whatever the parser says of it.
fn single_table(line: &str) -> Option<String> {
    let name = line.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    TABLES
        .contains(&name)
        .then(|| format!("write [[{name}]] in place of [{name}]: there can be several"))
}

/// Returns the hint for `[[store]]` in the place of `[store]`.
fn several_tables(line: &str) -> Option<String> {
    (line.trim() == "[[store]]").then(|| "write [store] in place of [[store]]: there is one".into())
}

/// Returns the hint for an unknown key, such as `checkpoint_every`. The message lists keys in
/// backquotes, the wrong one first.
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (wrong, known) = rest.split_once('`')?;
    let near = nearest(wrong, known.split('`').skip(1).step_by(2));
    let known = known.trim_start_matches(", ");
    Some(format!("unknown field `{wrong}`{near}; {known}"))
}

/// Returns the hint for a number in the place of a text with a unit, such as `memory = 64`.
fn number_for_text(key: &str, message: &str) -> Option<String> {
    let (number, _) = message.strip_prefix("invalid type: integer `")?.split_once('`')?;
    message.ends_with("expected a string").then_some(())?;
    let unit = if TIMES.contains(&key) { "s" } else { "M" };
    Some(format!("a number needs its unit, in quotes: {key} = \"{number}{unit}\""))
}
