//! The console's commands: one table says their words, arguments and help.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::suggest::suggest;
use super::table::GuestRow;
use crate::text::quoted;

/// A command. A guest is its name or number; a checkpoint too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Lists the commands, or explains one.
    Help(Option<&'a str>),
    /// Lists the guests.
    Guests,
    /// Stops a guest's time.
    Pause(&'a str),
    /// Lets it go on.
    Unpause(&'a str),
    /// Stores a guest.
    Checkpoint {
        /// The guest.
        guest: &'a str,
        /// The checkpoint's name; the guest's where it is left out.
        name: Option<&'a str>,
    },
    /// Resumes a guest from a checkpoint.
    Resume {
        /// The checkpoint.
        which: &'a str,
        /// Also where the guest's clock then goes at another speed.
        any_speed: bool,
    },
    /// Deletes a checkpoint.
    Delete(&'a str),
    /// Connects the terminal to a guest.
    Attach(&'a str),
    /// Lists the checkpoints.
    Store,
    /// Shows a guest's interrupt controller.
    Gic(&'a str),
    /// Switches the machine off.
    Quit,
}

/// A command's entry in the table.
struct Spec {
    word: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    /// One line.
    summary: &'static str,
    /// What else there is to know; may be empty.
    details: &'static str,
    /// Makes the command of as many arguments as the above admits.
    build: for<'a> fn(&[&'a str]) -> Command<'a>,
}

const GUEST: &str = "<guest>";
const CHECKPOINT: &str = "<number|name>";

static TABLE: [Spec; 11] = [
    Spec {
        word: "help",
        required: &[],
        optional: &["[command]"],
        summary: "list the commands, or explain one",
        details: "",
        build: |arguments| Command::Help(arguments.first().copied()),
    },
    Spec {
        word: "guests",
        required: &[],
        optional: &[],
        summary: "list the guests",
        details: "Other commands take a guest's number or its name.",
        build: |_| Command::Guests,
    },
    Spec {
        word: "pause",
        required: &[GUEST],
        optional: &[],
        summary: "stop a guest",
        details: "Its virtual time stands still until it is unpaused.",
        build: |arguments| Command::Pause(arguments[0]),
    },
    Spec {
        word: "unpause",
        required: &[GUEST],
        optional: &[],
        summary: "let a paused guest go on",
        details: "",
        build: |arguments| Command::Unpause(arguments[0]),
    },
    Spec {
        word: "checkpoint",
        required: &[GUEST],
        optional: &["[name]"],
        summary: "store a guest's state and memory",
        details: "The checkpoint gets a number, and the guest's name if none is given. The guest stands still \
                  meanwhile, and then goes on if it ran.",
        build: |arguments| Command::Checkpoint {
            guest: arguments[0],
            name: arguments.get(1).copied(),
        },
    },
    Spec {
        word: "resume",
        required: &[CHECKPOINT],
        optional: &["[--any-speed]"],
        summary: "resume a guest from a checkpoint",
        details: "The whole checkpoint is checked before anything changes. A name that several have stands for \
                  the newest. With --any-speed the guest's clock goes as fast as this machine's counter, \
                  whatever it was made with: its seconds are then shorter or longer.",
        build: |arguments| Command::Resume { which: arguments[0], any_speed: arguments.len() > 1 },
    },
    Spec {
        word: "delete",
        required: &[CHECKPOINT],
        optional: &[],
        summary: "delete a checkpoint",
        details: "",
        build: |arguments| Command::Delete(arguments[0]),
    },
    Spec {
        word: "attach",
        required: &[GUEST],
        optional: &[],
        summary: "connect this terminal to a guest's",
        details: "What it has sent since it was last attached is shown first, up to 16 KiB. Ctrl-] detaches.",
        build: |arguments| Command::Attach(arguments[0]),
    },
    Spec {
        word: "store",
        required: &[],
        optional: &[],
        summary: "list the checkpoints",
        details: "",
        build: |_| Command::Store,
    },
    Spec {
        word: "gic",
        required: &[GUEST],
        optional: &[],
        summary: "show a guest's interrupt controller",
        details: "",
        build: |arguments| Command::Gic(arguments[0]),
    },
    Spec {
        word: "quit",
        required: &[],
        optional: &[],
        summary: "switch the machine off",
        details: "Guests that were not checkpointed are lost.",
        build: |_| Command::Quit,
    },
];

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
    /// Neither an argument nor an option of the command.
    #[error("{} is no option; usage: {usage}", quoted(.word))]
    NoOption {
        /// What was typed.
        word: String,
        /// How the command goes.
        usage: Usage,
    },
    /// No such guest.
    #[error("no guest {}; {there_are}", quoted(.guest))]
    NoSuchGuest {
        /// What was typed.
        guest: String,
        /// Which there are.
        there_are: String,
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

/// How a command goes: its word and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage(&'static str);

impl fmt::Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)?;
        let spec = TABLE.iter().find(|spec| spec.word == self.0);
        let mut arguments =
            spec.into_iter().flat_map(|spec| spec.required.iter().chain(spec.optional));
        arguments.try_for_each(|argument| write!(out, " {argument}"))
    }
}

/// Understands a command line.
pub fn parse(line: &str) -> Result<Command<'_>, CommandError> {
    let mut words = line.split_ascii_whitespace();
    let spec = find(words.next().ok_or(CommandError::Empty)?)?;
    let arguments: Vec<&str> = words.collect();
    let usage = Usage(spec.word);
    if let Some(argument) = spec.required.get(arguments.len()) {
        return Err(CommandError::Missing { argument, usage });
    }
    if let Some(word) = arguments.get(spec.required.len() + spec.optional.len()) {
        return Err(CommandError::Surplus { word: word.to_string(), usage });
    }
    let given = arguments.iter().skip(spec.required.len()).zip(spec.optional);
    if let Some((word, _)) = given.into_iter().find(|(word, place)| !fits(word, place)) {
        return Err(CommandError::NoOption { word: word.to_string(), usage });
    }
    let command = (spec.build)(&arguments);
    if let Command::Help(Some(topic)) = command {
        find(topic)?;
    }
    Ok(command)
}

/// Whether a word may stand where the table has `place`: an option, `[--so]`, is itself and nothing else.
fn fits(word: &str, place: &str) -> bool {
    let option = place.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    option.is_none_or(|option| !option.starts_with("--") || option == word)
}

fn find(word: &str) -> Result<&'static Spec, CommandError> {
    TABLE.iter().find(|spec| spec.word == word).ok_or_else(|| CommandError::Unknown {
        word: word.to_string(),
        suggestion: suggest(word, TABLE.iter().map(|spec| spec.word)),
    })
}

/// Writes the help: of all commands, or of the one that `topic` names.
pub fn write_help(out: &mut impl fmt::Write, topic: Option<&str>) -> fmt::Result {
    if let Some(spec) = TABLE.iter().find(|spec| Some(spec.word) == topic) {
        writeln!(out, "{}: {}", Usage(spec.word), spec.summary)?;
        return if spec.details.is_empty() { Ok(()) } else { writeln!(out, "{}", spec.details) };
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
