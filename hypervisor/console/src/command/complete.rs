//! Completes the beginning of a command line, for the Tab key.

use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::spec::{Kind, TABLE};
use super::{ALL, SEPARATOR};

/// The names that a command line can contain.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Names of the guests on the machine.
    pub guests: Vec<String>,
    /// Names of the guests in the configuration.
    pub configured: Vec<String>,
    /// Names of the checkpoints in the store.
    pub checkpoints: Vec<String>,
    /// Names of the volumes in the store.
    pub volumes: Vec<String>,
}

/// A list of [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Guests, those in the configuration among them.
    Guests,
    /// Checkpoints.
    Checkpoints,
    /// Volumes.
    Volumes,
}

/// The effect of the Tab key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The text that is appended to what was typed.
    pub append: String,
    /// The words that it could become, if there is more than one.
    pub choices: Vec<String>,
}

/// Returns `line`, which is the beginning of a command line, in two parts: the last word, and what
/// stands before it.
fn parted(line: &str) -> (&str, &str) {
    line.split_at(line.rfind(|c: char| c.is_ascii_whitespace()).map_or(0, |at| at + 1))
}

/// Returns the words that the last word of `line` could become, as a shell wants them: of a list of
/// guests with those that stand in it already.
pub fn words_for(line: &str, names: &Names) -> Vec<String> {
    let (before, word) = parted(line);
    let (candidates, typed) = candidates(before, word, names);
    let first = &word[..word.len() - typed.len()];
    let fitting = candidates.iter().filter(|candidate| candidate.starts_with(typed));
    let words = fitting.map(|candidate| format!("{first}{candidate}"));
    let mut words = BinaryHeap::from_iter(words).into_sorted_vec();
    words.dedup();
    words
}

/// Returns the list that has what the last word of `line` could become; `None` if no list of names
/// has.
pub fn list_for(line: &str) -> Option<List> {
    let (before, word) = parted(line);
    let mut earlier = before.split_ascii_whitespace();
    let command = earlier.next()?;
    match kind_of(command, earlier).filter(|_| !word.starts_with('-'))? {
        Kind::Guest | Kind::Guests | Kind::Startables => Some(List::Guests),
        Kind::Checkpoint => Some(List::Checkpoints),
        Kind::Volume => Some(List::Volumes),
        Kind::Topic | Kind::OneOf(_) | Kind::Word(_) | Kind::Free => None,
    }
}

/// Returns what the parameter of a command is that stands behind the words `earlier`.
fn kind_of<'a>(command: &str, earlier: impl Iterator<Item = &'a str>) -> Option<Kind> {
    let spec = TABLE.iter().find(|spec| spec.word == command)?;
    let index = earlier.filter(|word| !word.starts_with("--")).count();
    spec.parameters.get(index).map(|parameter| parameter.kind)
}

/// Returns the completion of the last word of `line`, which is the beginning of a command line.
pub fn complete(line: &str, names: &Names) -> Completion {
    let (before, word) = parted(line);
    let (candidates, typed) = candidates(before, word, names);
    let fitting = candidates
        .iter()
        .map(String::as_str)
        .filter(|candidate| candidate.starts_with(typed))
        // The editor takes no other characters.
        .filter(|candidate| candidate.bytes().all(|byte| byte.is_ascii_graphic()));
    let mut fitting = BinaryHeap::from_iter(fitting).into_sorted_vec();
    fitting.dedup();
    let Some((first, rest)) = fitting.split_first() else {
        return Completion::default();
    };
    let common = rest.iter().fold(first.len(), |len, other| common_len(&first[..len], other));
    let mut append = first[typed.len()..common].to_string();
    if rest.is_empty() {
        // A set's name may continue with the name of a guest.
        if !first.ends_with('/') {
            append.push(' ');
        }
        return Completion { append, choices: Vec::new() };
    }
    let choices = match append.is_empty() {
        true => fitting.iter().map(ToString::to_string).collect(),
        false => Vec::new(),
    };
    Completion { append, choices }
}

fn common_len(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Returns the words that could stand in the place of `word`, and the part of it that counts as
/// typed.
fn candidates<'w>(before: &str, word: &'w str, names: &Names) -> (Vec<String>, &'w str) {
    let mut earlier = before.split_ascii_whitespace();
    let Some(command) = earlier.next() else {
        return (words(), word);
    };
    let Some(spec) = TABLE.iter().find(|spec| spec.word == command) else {
        return (Vec::new(), word);
    };
    if word.starts_with('-') {
        return (spec.options.iter().map(ToString::to_string).collect(), word);
    }
    let Some(kind) = kind_of(command, earlier) else {
        return (Vec::new(), word);
    };
    let candidates = match kind {
        Kind::Guest => names.guests.clone(),
        Kind::Startables => {
            let startable = names.guests.iter().chain(&names.configured).cloned();
            return several(startable.collect(), word);
        }
        Kind::Guests => return several(names.guests.clone(), word),
        Kind::Checkpoint => checkpoints(word, &names.checkpoints),
        Kind::Topic => words(),
        Kind::Volume => names.volumes.clone(),
        Kind::OneOf(words) => words.iter().map(ToString::to_string).collect(),
        Kind::Word(word) => Vec::from([word.to_string()]),
        Kind::Free => Vec::new(),
    };
    (candidates, word)
}

/// Returns what could stand behind the last separator of a list of guests, or `all` in its place,
/// and the part of the list that counts as typed.
fn several(mut guests: Vec<String>, list: &str) -> (Vec<String>, &str) {
    match list.rfind(SEPARATOR) {
        Some(at) => (guests, &list[at + 1..]),
        None => {
            guests.push(ALL.to_string());
            (guests, list)
        }
    }
}

fn words() -> Vec<String> {
    TABLE.iter().map(|spec| spec.word.to_string()).collect()
}

/// Returns the names of checkpoints and sets; those in a set only if its name was typed, as a shell
/// does with folders.
fn checkpoints(typed: &str, names: &[String]) -> Vec<String> {
    let shown = |name: &String| match name[..].find('/') {
        Some(at) if at >= typed.len() => name[..=at].to_string(),
        _ => name.clone(),
    };
    names.iter().map(shown).collect()
}
