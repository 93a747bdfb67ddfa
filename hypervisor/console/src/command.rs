//! The console's commands: what a line means. [`spec`] has the table of words, arguments and help, [`complete`] what the
//! Tab key makes of a beginning.

mod complete;
mod spec;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

pub use self::complete::{Completion, Names, complete};
use self::spec::{Arguments, Spec, TABLE};
use crate::suggest::suggest;
use crate::table::GuestRow;
use crate::text::quoted;

/// Stands for all guests, where a command takes several.
pub const ALL: &str = "all";
/// What lies between the names of several guests.
pub const SEPARATOR: char = ',';
/// Tables as JSON, one object in a line.
const JSON: &str = "--json";
/// A guest's clock may go at another speed than it was made with.
const ANY_SPEED: &str = "--any-speed";

/// A command. A guest is its name or number; a checkpoint too, or a set's name with a `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Lists the commands, or explains one.
    Help(Option<&'a str>),
    /// Lists the guests.
    Guests {
        /// As JSON.
        json: bool,
    },
    /// Shows what the vCPUs have had and done.
    Top {
        /// Over so many seconds from now on; since Stasis was started, where it is left out.
        seconds: Option<u64>,
        /// How often.
        times: u64,
        /// As JSON.
        json: bool,
    },
    /// Stops a guest's time.
    Pause(&'a str),
    /// Lets it go on.
    Unpause(&'a str),
    /// Switches a guest off.
    Stop(&'a str),
    /// Starts a guest that is off, or was never there.
    Start(&'a str),
    /// Starts a guest again, whatever it is doing.
    Restart(&'a str),
    /// Has a guest that does not run be gone.
    Remove(&'a str),
    /// Stores guests at one instant.
    Checkpoint {
        /// The guests; none named: all.
        guests: Vec<&'a str>,
        /// The checkpoint's name, or the set's.
        name: Option<&'a str>,
    },
    /// Resumes a guest from a checkpoint, or those of a set.
    Resume {
        /// The checkpoint or the set.
        which: &'a str,
        /// The name of a new guest, beside the one that was stored.
        copy: Option<&'a str>,
        /// Also where the guest's clock then goes at another speed.
        any_speed: bool,
    },
    /// Deletes a checkpoint, or those of a set.
    Delete(&'a str),
    /// Connects the terminal to a guest.
    Attach(&'a str),
    /// Sends a guest's UART a break.
    SendBreak(&'a str),
    /// Shows what a guest has sent last.
    Log {
        /// The guest.
        guest: &'a str,
        /// Lines.
        lines: usize,
    },
    /// Lists the checkpoints.
    Store {
        /// As JSON.
        json: bool,
    },
    /// Shows a guest's interrupt controller.
    Gic(&'a str),
    /// Gives up the command that was under way when it was typed.
    Cancel,
    /// Switches the machine off.
    Quit,
}

/// What can be wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing was typed.
    #[error("no command")]
    Empty,
    /// No such command.
    #[error("no command {}{} (\"help\" lists them)", quoted(.word), DidYouMean(*.suggestion))]
    Unknown {
        /// What was typed.
        word: String,
        /// What it may have meant.
        suggestion: Option<&'static str>,
    },
    /// An argument is not there.
    #[error("{argument} is missing; usage: {usage}")]
    Missing {
        /// Which one.
        argument: &'static str,
        /// How the command goes.
        usage: Usage,
    },
    /// More arguments than the command takes.
    #[error("{} is one argument too many; usage: {usage}", quoted(.word))]
    Surplus {
        /// The first of them.
        word: String,
        /// How the command goes.
        usage: Usage,
    },
    /// Another word stands where there is only one that may.
    #[error("{} stands where only \"{expected}\" can; usage: {usage}", quoted(.word))]
    NotTheWord {
        /// What was typed.
        word: String,
        /// What may stand there.
        expected: &'static str,
        /// How the command goes.
        usage: Usage,
    },
    /// An option that the command does not have.
    #[error("{} is no option of it; usage: {usage}", quoted(.word))]
    NoSuchOption {
        /// What was typed.
        word: String,
        /// How the command goes.
        usage: Usage,
    },
    /// No number, or none that makes sense.
    #[error("{} is no number from 1 to {most}; usage: {usage}", quoted(.word))]
    NotANumber {
        /// What was typed.
        word: String,
        /// The largest.
        most: u64,
        /// How the command goes.
        usage: Usage,
    },
    /// A list of guests with an empty place or one of them twice.
    #[error("{} names {problem}", quoted(.list))]
    GuestList {
        /// What was typed.
        list: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No such guest.
    #[error("no guest {}; {there_are}", quoted(.guest))]
    NoSuchGuest {
        /// What was typed.
        guest: String,
        /// Which there are.
        there_are: String,
    },
    /// All guests are meant, and there is none.
    #[error("there is no guest")]
    NoGuests,
    /// A guest is named twice, by its name or its number.
    #[error("guest \"{guest}\" is named twice")]
    NamedTwice {
        /// The guest's name.
        guest: String,
    },
}

struct DidYouMean(Option<&'static str>);

impl fmt::Display for DidYouMean {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(word) => write!(out, "; did you mean \"{word}\"?"),
            None => Ok(()),
        }
    }
}

/// How a command goes: its word, its arguments and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(&'static str);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)?;
        let Some(spec) = TABLE.iter().find(|spec| spec.word == self.0) else {
            return Ok(());
        };
        spec.parameters.iter().try_for_each(|parameter| write!(out, " {}", parameter.shown))?;
        spec.options.iter().try_for_each(|option| write!(out, " [{option}]"))
    }
}

/// Understands a command line.
pub fn parse(line: &str) -> Result<Command<'_>, CommandError> {
    let mut words = line.split_ascii_whitespace();
    let spec = find(words.next().ok_or(CommandError::Empty)?)?;
    let arguments = Arguments::of(spec, words)?;
    let command = (spec.build)(&arguments)?;
    if let Command::Help(Some(topic)) = command {
        find(topic)?;
    }
    Ok(command)
}

/// Stands for `help`.
const QUESTION_MARK: &str = "?";

/// What other programs call a command, and what it is called here. It is only suggested: `quit` switches the machine off.
const ELSEWHERE: [(&str, &str); 8] = [
    ("exit", "quit"),
    ("poweroff", "quit"),
    ("shutdown", "quit"),
    ("list", "guests"),
    ("ls", "guests"),
    ("save", "checkpoint"),
    ("load", "resume"),
    ("console", "attach"),
];

fn find(word: &str) -> Result<&'static Spec, CommandError> {
    let word = if word == QUESTION_MARK { "help" } else { word };
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours);
    TABLE.iter().find(|spec| spec.word == word).ok_or_else(|| CommandError::Unknown {
        word: word.to_string(),
        suggestion: elsewhere.or_else(|| suggest(word, TABLE.iter().map(|spec| spec.word))),
    })
}

/// Writes the help: of all commands, or of the one that `topic` names.
pub fn write_help(out: &mut dyn fmt::Write, topic: Option<&str>) -> fmt::Result {
    if let Some(spec) = TABLE.iter().find(|spec| Some(spec.word) == topic) {
        writeln!(out, "{}: {}", Usage(spec.word), spec.summary)?;
        return spec.details.iter().try_for_each(|line| writeln!(out, "{line}"));
    }
    let usages: Vec<String> = TABLE.iter().map(|spec| Usage(spec.word).to_string()).collect();
    let width = usages.iter().map(String::len).max().unwrap_or(0);
    for (usage, spec) in usages.iter().zip(&TABLE) {
        writeln!(out, "  {usage:width$}  {}", spec.summary)?;
    }
    Ok(())
}

/// Finds the guest that `word` names or numbers, and returns its place in `guests`.
pub fn find_guest(guests: &[GuestRow<'_>], word: &str) -> Result<usize, CommandError> {
    let number = word.parse().ok();
    let named = |guest: &GuestRow<'_>| guest.name == word || number == Some(guest.number);
    guests.iter().position(named).ok_or_else(|| {
        let names: Vec<String> =
            guests.iter().map(|guest| alloc::format!("{} {}", guest.number, guest.name)).collect();
        let there_are = match names.is_empty() {
            true => "there is none".to_string(),
            false => alloc::format!("there are: {}", names.join(", ")),
        };
        CommandError::NoSuchGuest { guest: word.to_string(), there_are }
    })
}

/// Finds the guests that `words` name or number, and returns their places in `guests`, in the order of the words. No words: all.
pub fn find_guests(guests: &[GuestRow<'_>], words: &[&str]) -> Result<Vec<usize>, CommandError> {
    if words.is_empty() {
        return match guests.len() {
            0 => Err(CommandError::NoGuests),
            count => Ok((0..count).collect()),
        };
    }
    let mut found = Vec::new();
    for word in words {
        let place = find_guest(guests, word)?;
        if found.contains(&place) {
            return Err(CommandError::NamedTwice { guest: guests[place].name.to_string() });
        }
        found.push(place);
    }
    Ok(found)
}
