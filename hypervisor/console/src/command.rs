//! The console's commands: what a line means. [`spec`] has the table of the commands' words,
//! arguments and help, [`complete`] completes the beginning of a line for the Tab key.

mod arguments;
mod choices;
mod complete;
mod spec;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use self::arguments::Arguments;
pub use self::complete::{Completion, List, Names, complete, list_for, words_for};
use self::spec::{Spec, TABLE};
use crate::suggest::suggest;
use crate::table::GuestRow;
use crate::text::{parse_time, quoted};

/// The word for all guests, for a command that takes several.
pub const ALL: &str = "all";
/// The character between the names of several guests.
pub const SEPARATOR: char = ',';
/// The greatest weight of a guest.
pub const MAX_WEIGHT: u16 = 10_000;
/// The option for tables as JSON, one object in each line.
const JSON: &str = "--json";
/// The option that lets the clock of a resumed guest go at another speed than before.
const ANY_SPEED: &str = "--any-speed";
/// The option that has all of a guest's memory loaded before it goes on.
const WHOLE: &str = "--whole";

/// The option that leaves the disks of a guest as they are.
const KEEP_DISKS: &str = "--keep-disks";
/// The option that means a guest's terminal, and not its UART.
const TERMINAL: &str = "--terminal";

/// A command. A guest is given by name or number, a checkpoint by name or number, a set by its name
/// with a `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Lists the commands, or explains one.
    Help(Option<&'a str>),
    /// Lists the guests.
    Guests {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Shows how busy the cores and the guests are.
    Top {
        /// The seconds from now that a table is about; `None`: one table about the time since
        /// Stasis was started.
        seconds: Option<u64>,
        /// Number of tables that are shown.
        times: u64,
        /// Whether the tables are written as JSON.
        json: bool,
    },
    /// Stops the time and the vCPUs of guests. Of this command and all others with a list of
    /// guests: an empty list means all for which it fits.
    Pause(Vec<&'a str>),
    /// Lets paused guests go on.
    Unpause(Vec<&'a str>),
    /// Presses the power keys of guests.
    Shutdown(Vec<&'a str>),
    /// Switches guests off.
    Stop(Vec<&'a str>),
    /// Starts guests that are off, or that the configuration has and the machine does not.
    Start(Vec<&'a str>),
    /// Starts guests anew, whatever they are doing.
    Restart(Vec<&'a str>),
    /// Removes guests that do not run from the machine.
    Remove(Vec<&'a str>),
    /// Stores guests as they are at one instant.
    Checkpoint {
        /// The guests; all of them if the list is empty.
        guests: Vec<&'a str>,
        /// The name of the checkpoint, or of the set.
        name: Option<&'a str>,
    },
    /// Resumes a guest from a checkpoint, or the guests of a set.
    Resume {
        /// The checkpoint or the set.
        which: &'a str,
        /// The name of a new guest, beside the one that was stored.
        copy: Option<&'a str>,
        /// Whether the guest's clock may go at another speed than before.
        any_speed: bool,
        /// Whether all of the memory is loaded and checked before the guest goes on.
        whole: bool,
        /// Whether the guest's disks stay as they are.
        keep_disks: bool,
    },
    /// Lists the weights of guests.
    Weights {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Gives guests another weight.
    SetWeight {
        /// The guests; all of them if the list is empty.
        guests: Vec<&'a str>,
        /// Weight of each from now on.
        weight: u16,
    },
    /// Lists the windows of guests on the cores.
    Windows {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Divides a core's time anew.
    Divide {
        /// Number of the core.
        core: u32,
        /// Microseconds of the frame, and the windows in it; `None`: the core's time is divided by
        /// weights alone.
        frame: Option<(u64, Vec<Window<'a>>)>,
    },
    /// Makes a second guest of one that is in memory, as it is at an instant.
    Clone {
        /// The guest.
        guest: &'a str,
        /// The name of the new guest.
        name: &'a str,
    },
    /// Deletes a checkpoint, or the checkpoints of a set.
    Delete(&'a str),
    /// Connects the console to a guest.
    Attach {
        /// The guest.
        guest: &'a str,
        /// Whether it is connected to the guest's terminal, and not to its UART.
        terminal: bool,
    },
    /// Sends a guest's UART a break.
    SendBreak(&'a str),
    /// Shows the last lines that a guest has sent.
    Log {
        /// The guest.
        guest: &'a str,
        /// Number of lines that are shown.
        lines: usize,
    },
    /// Shows the last lines of Stasis's own log.
    Dmesg {
        /// Number of lines that are shown.
        lines: usize,
    },
    /// Lists the checkpoints.
    Store {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Takes the store to the newest version.
    UpgradeStore,
    /// Sets how the store compresses the checkpoints that it gets: `lz4` or `none`.
    CompressStore(&'a str),
    /// Lists the volumes.
    Volumes {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Creates a volume of zeros.
    CreateVolume {
        /// The name.
        name: &'a str,
        /// The bytes.
        size: u64,
    },
    /// Makes a volume that shares its blocks with another one.
    CopyVolume {
        /// The volume that is copied.
        name: &'a str,
        /// The name of the new one.
        to: &'a str,
    },
    /// Deletes a volume.
    DeleteVolume(&'a str),
    /// Lists the network cards of guests.
    Network {
        /// Whether the list is written as JSON.
        json: bool,
    },
    /// Sets the links of a guest's network cards up or down.
    SetLinks {
        /// The guest.
        guest: &'a str,
        /// Whether they are up then.
        up: bool,
    },
    /// Shows a guest's interrupt controller.
    Gic(&'a str),
    /// Gives up the command that was under way when this one was typed.
    Cancel,
    /// Switches the machine off.
    Quit,
}

/// A window of a guest in a core's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<'a> {
    /// The guest's name or number.
    pub guest: &'a str,
    /// Microseconds from the frame's beginning to the window's.
    pub at_us: u64,
    /// Microseconds that it lasts.
    pub length_us: u64,
}

impl<'a> Window<'a> {
    /// Returns the window of `guest:at:length`; `None` if it is none.
    fn parse(text: &'a str) -> Option<Self> {
        let (guest, times) = text.split_once(':')?;
        let (at, length) = times.split_once(':')?;
        Some(Self { guest, at_us: parse_time(at)?, length_us: parse_time(length)? })
    }
}

impl Command<'_> {
    /// Returns whether each line of the answer is an object of JSON.
    pub fn answers_in_json(&self) -> bool {
        let (Self::Guests { json }
        | Self::Top { json, .. }
        | Self::Weights { json }
        | Self::Windows { json }
        | Self::Store { json }
        | Self::Volumes { json }
        | Self::Network { json }) = self
        else {
            return false;
        };
        *json
    }
}

/// Why a command line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The line is empty.
    #[error("no command")]
    Empty,
    /// The first word of the line is no command.
    #[error("no command {}{} (\"help\" lists them)", quoted(.word), DidYouMean(*.suggestion))]
    Unknown {
        /// The word that was typed.
        word: String,
        /// The command that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// An argument that the command needs is missing.
    #[error("{argument} is missing; usage: {usage}")]
    Missing {
        /// The missing argument, as the help shows it.
        argument: &'static str,
        /// The usage of the command.
        usage: Usage,
    },
    /// There are more arguments than the command takes.
    #[error("{} is one argument too many; usage: {usage}", quoted(.word))]
    Surplus {
        /// The first argument that is too many.
        word: String,
        /// The usage of the command.
        usage: Usage,
    },
    /// Only one word may stand in this place, and another one was typed.
    #[error("{} stands where only \"{expected}\" can; usage: {usage}", quoted(.word))]
    NotTheWord {
        /// The word that was typed.
        word: String,
        /// The word that may stand there.
        expected: &'static str,
        /// The usage of the command.
        usage: Usage,
    },
    /// The command, or this use of it, does not have this option.
    #[error("{} is no option of it; usage: {usage}", quoted(.word))]
    NoSuchOption {
        /// The word that was typed.
        word: String,
        /// The usage of the command.
        usage: Usage,
    },
    /// An argument is no number, or one that is not allowed.
    #[error("{} is no number from {least} to {most}; usage: {usage}", quoted(.word))]
    NotANumber {
        /// The word that was typed.
        word: String,
        /// The smallest number that is allowed.
        least: u64,
        /// The largest number that is allowed.
        most: u64,
        /// The usage of the command.
        usage: Usage,
    },
    /// An argument is no size.
    #[error("{} is no size such as \"1G\" or \"512M\"; usage: {usage}", quoted(.word))]
    NotASize {
        /// The word that was typed.
        word: String,
        /// The usage of the command.
        usage: Usage,
    },
    /// An argument is no time.
    #[error("{} is no time such as \"10ms\" or \"500us\"; usage: {usage}", quoted(.word))]
    NotATime {
        /// The word that was typed.
        word: String,
        /// The usage of the command.
        usage: Usage,
    },
    /// An argument is no window.
    #[error("{} is no window such as \"linux:0ms:2ms\": its guest, where it begins in the frame, how long it is; usage: {usage}", quoted(.word))]
    NotAWindow {
        /// The word that was typed.
        word: String,
        /// The usage of the command.
        usage: Usage,
    },
    /// A list of guests has an empty place, or one guest twice.
    #[error("{} names {problem}", quoted(.list))]
    GuestList {
        /// The list that was typed.
        list: String,
        /// The wrong thing that the list names, such as a guest twice.
        problem: &'static str,
    },
    /// There is no such guest.
    #[error("no guest {}; {there_are}", quoted(.guest))]
    NoSuchGuest {
        /// The name or number that was typed.
        guest: String,
        /// The guests that there are, in words.
        there_are: String,
    },
    /// The command is for all guests, and there is none.
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

/// The usage of a command, written as its word, its arguments and its options.
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

/// Returns the command that `line` means.
///
/// # Errors
///
/// What is wrong with the line. Whether the guests and checkpoints exist is not checked.
pub fn parse(line: &str) -> Result<Command<'_>, CommandError> {
    let mut words = line.split_ascii_whitespace();
    let spec = find(words.next().ok_or(CommandError::Empty)?)?;
    let arguments = Arguments::of(spec, words)?;
    let command = (spec.build)(&arguments)?;
    if let Command::Help(Some(topic)) = command {
        find(topic)?;
    }
    if arguments.has(JSON) && !command.answers_in_json() {
        return Err(CommandError::NoSuchOption { word: JSON.to_string(), usage: Usage(spec.word) });
    }
    Ok(command)
}

/// The short form of the word `help`.
const QUESTION_MARK: &str = "?";

/// Words of other programs, and the commands that do the same here. They are only suggested, not
/// carried out: `quit` switches the machine off.
const ELSEWHERE: [(&str, &str); 9] = [
    ("exit", "quit"),
    ("destroy", "stop"),
    ("poweroff", "quit"),
    ("system_powerdown", "shutdown"),
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

/// Writes the help to `out`: the list of all commands, or the help of the command that `topic`
/// names.
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

/// Returns the index in `guests` of the guest that `word` names or numbers.
///
/// # Errors
///
/// [`CommandError::NoSuchGuest`].
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

/// Returns the indices in `guests` of the guests that `words` name or number, in the order of the
/// words; of all guests if there are no words.
///
/// # Errors
///
/// [`CommandError::NoGuests`], [`CommandError::NoSuchGuest`] or [`CommandError::NamedTwice`].
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
