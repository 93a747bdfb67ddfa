//! What a shell offers behind Tab: the names of a machine's guests and checkpoints, which the
//! machine is asked for if `--to`, STASIS_TO, or a `stasis connect` that runs says where it is.
//!
//! The words are those that the [console](stasis_console::command) itself completes. A machine that
//! has not answered within a second, for it is busy with another request or is not there, offers
//! nothing.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use clap_complete::engine::CompletionCandidate;
use serde_json::Value;
use stasis_client::{Client, Message, Options, Target};
use stasis_console::command::{List, Names, list_for, words_for};

use crate::ctl::environment;
use crate::ctl::options::{command_words, find};

/// How long a machine may take to answer, unless `--patience` in the line says another time.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest that it may take, whatever the line says.
const LONGEST: Duration = Duration::from_secs(600);

/// The commands of `ctl` that are no commands of the console's; each with one that takes the same
/// name first, if there is one.
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
        let of_machine = offered("", &typed).into_iter();
        // What has another way here.
        let of_machine =
            of_machine.filter(|word| word.get_value() != "attach" && word.get_value() != "cancel");
        return own.chain(of_machine).collect();
    }
    let known = OWN.iter().find(|(word, _)| *word == before[0]);
    match (known, &before[..]) {
        (Some((_, Some(like))), [_]) => offered(&format!("{like} "), &typed),
        (Some(_), _) => Vec::new(),
        (None, words) => offered(&(words.join(" ") + " "), &typed),
    }
}

/// Returns what the console offers behind `before` for what was typed.
fn offered(before: &str, typed: &str) -> Vec<CompletionCandidate> {
    let line = format!("{before}{typed}");
    let names = list_for(&line).and_then(asked).unwrap_or_default();
    words_for(&line, &names).into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the names of this list that the machine knows; `None` if nobody says where it is, or it
/// does not answer in time.
fn asked(list: List) -> Option<Names> {
    let words: Vec<String> = std::env::args().collect();
    let option = |name| find(name, &words).and_then(|(_, value)| value);
    let target = match option("--to") {
        Some(to) => to.parse().ok()?,
        None => environment::target().ok()?.or_else(Target::usual)?,
    };
    let patience = option("--patience").and_then(|seconds| seconds.parse().ok());
    // Nobody waits at a prompt for longer, and a time without an end has no sum with now.
    let patience = patience.map_or(PATIENCE, Duration::from_secs).min(LONGEST);
    let until = Instant::now() + patience;
    let options = Options { patience, ..Options::default() };
    let mut client = Client::connect(&target, options).ok()?;
    let mut names = |line| answer(&mut client, line, until).map(|rows| names_in(&rows));
    Some(match list {
        List::Guests => {
            let guests = names("guests --json")?;
            Names { configured: guests.clone(), guests, ..Names::default() }
        }
        List::Checkpoints => Names { checkpoints: names("store --json")?, ..Names::default() },
        List::Volumes => Names { volumes: names("volume --json")?, ..Names::default() },
    })
}

/// Returns the answer to a command line; `None` if its end has not come by `until`. A request that
/// is under way on the machine is not waited for longer.
fn answer(client: &mut Client, line: &str, until: Instant) -> Option<Vec<u8>> {
    let id = client.request(line).ok()?;
    let mut answer = Vec::new();
    while Instant::now() < until {
        match client.next(Some(until)).ok()?? {
            Message::Rows { id: of, bytes } if of == id => answer.extend(bytes),
            Message::Done { id: of, .. } if of == id => return Some(answer),
            _ => {}
        }
    }
    None
}

/// Returns the names in rows of JSON.
pub fn names_in(rows: &[u8]) -> Vec<String> {
    let rows = rows.split(|byte| *byte == b'\n');
    let rows = rows.filter_map(|row| serde_json::from_slice::<Value>(row).ok());
    rows.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}
