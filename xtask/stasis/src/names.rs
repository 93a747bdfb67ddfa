//! What a shell offers behind Tab: the names of a machine's guests and checkpoints, which the machine is asked for if `--to`, or STASIS_TO, says where it is.
//!
//! The words are those that the [console](stasis_console::command) itself completes. A machine that does not answer within a second offers nothing.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::CompletionCandidate;
use serde_json::Value;
use stasis_client::{Client, Options, Target};
use stasis_console::command::{Names, words_for};

/// How long a machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The commands of `ctl` that are no commands of the console's; each with one that takes the same name first, if there is one.
const OWN: [(&str, Option<&str>); 6] = [
    ("wait", None),
    ("events", None),
    ("output", None),
    ("put", None),
    ("stream", None),
    ("get", Some("delete")),
];

/// Returns the guests whose names begin with what was typed.
pub fn guests(typed: &OsStr) -> Vec<CompletionCandidate> {
    offered("log ", &typed.to_string_lossy())
}

/// Returns the words that can stand where the cursor is, in a command of `ctl`.
pub fn command(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line: Vec<String> = std::env::args().skip_while(|word| word != "--").skip(1).collect();
    let place = std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok());
    let end: usize = place.unwrap_or(line.len().saturating_sub(1));
    let before = command_words(line.get(..end).unwrap_or(&line));
    let typed = typed.to_string_lossy();
    if before.is_empty() {
        let own = OWN.iter().map(|(word, _)| *word).filter(|word| word.starts_with(&*typed));
        let own = own.map(CompletionCandidate::new);
        return own.chain(offered("", &typed)).collect();
    }
    let known = OWN.iter().find(|(word, _)| *word == before[0]);
    match (known, &before[..]) {
        (Some((_, Some(like))), [_]) => offered(&format!("{like} "), &typed),
        (Some(_), _) => Vec::new(),
        (None, words) => offered(&(words.join(" ") + " "), &typed),
    }
}

/// Returns the words of a command line of `ctl` that are behind its options.
fn command_words(line: &[String]) -> Vec<&str> {
    let mut words = line.iter().map(String::as_str).skip_while(|word| *word != "ctl").skip(1);
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        match word {
            _ if !command.is_empty() => command.push(word),
            "--to" | "--baud" | "--patience" | "--timeout" => drop(words.next()),
            _ if word.starts_with("--") => {}
            _ => command.push(word),
        }
    }
    command
}

/// Returns what the console offers behind `before` for what was typed.
fn offered(before: &str, typed: &str) -> Vec<CompletionCandidate> {
    let names = asked().unwrap_or_default();
    words_for(&format!("{before}{typed}"), &names)
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Returns the names that the machine knows; `None` if nobody says where it is, or it does not answer.
fn asked() -> Option<Names> {
    let mut words = std::env::args();
    let to = words.by_ref().find_map(|word| match word.strip_prefix("--to") {
        Some("") => Some(None),
        Some(rest) => rest.strip_prefix('=').map(|to| Some(to.to_owned())),
        None => None,
    });
    let to = match to {
        Some(Some(to)) => to,
        Some(None) => words.next()?,
        None => std::env::var("STASIS_TO").ok()?,
    };
    let target: Target = to.parse().ok()?;
    let options = Options { patience: PATIENCE, ..Options::default() };
    let mut client = Client::connect(&target, options).ok()?;
    let mut of = |line: &str| -> Vec<String> {
        let list = client.answer(line).unwrap_or_default();
        let rows = list.lines().filter_map(|row| serde_json::from_str::<Value>(row).ok());
        rows.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
    };
    let guests = of("guests --json");
    Some(Names {
        configured: guests.clone(),
        guests,
        checkpoints: of("store --json"),
        volumes: of("volume --json"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_begins_behind_the_options() {
        let words = |line: &str| {
            let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
            command_words(&line).join(" ")
        };
        assert_eq!(words("stasis ctl --to unix:x --json pause linux"), "pause linux");
        assert_eq!(words("stasis ctl guests --json"), "guests --json");
        assert_eq!(words("stasis ctl --to"), "");
    }
}
