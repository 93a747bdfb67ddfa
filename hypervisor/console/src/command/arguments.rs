//! The words behind a command, as its specification takes them: [`Arguments`].

use alloc::string::ToString;
use alloc::vec::Vec;

use super::spec::{Kind, Spec};
use super::{ALL, CommandError, SEPARATOR, Usage};
use crate::text::parse_size;

/// The words that were typed behind a command.
pub(super) struct Arguments<'a> {
    pub(super) usage: Usage,
    words: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    /// Returns the words as arguments, if their number and their kinds are those that the command
    /// takes.
    pub(super) fn of(
        spec: &'static Spec,
        words: impl Iterator<Item = &'a str>,
    ) -> Result<Self, CommandError> {
        let usage = Usage(spec.word);
        let (options, words): (Vec<&str>, Vec<&str>) =
            words.partition(|word| word.starts_with("--"));
        if let Some(word) = options.iter().find(|option| !spec.options.contains(option)) {
            return Err(CommandError::NoSuchOption { word: word.to_string(), usage });
        }
        if let Some(word) = words.get(spec.parameters.len()) {
            return Err(CommandError::Surplus { word: word.to_string(), usage });
        }
        let mut announced = false;
        for (index, parameter) in spec.parameters.iter().enumerate() {
            match (words.get(index), parameter.kind) {
                (Some(word), Kind::Word(expected)) if *word != expected => {
                    let word = word.to_string();
                    return Err(CommandError::NotTheWord { word, expected, usage });
                }
                (Some(word), Kind::OneOf(words)) if !words.contains(word) => {
                    let (word, expected) = (word.to_string(), parameter.shown);
                    let expected = expected.trim_matches(['[', ']']);
                    return Err(CommandError::NotTheWord { word, expected, usage });
                }
                (None, _) if parameter.required || announced => {
                    let argument = parameter.shown.trim_matches(['[', ']']);
                    return Err(CommandError::Missing { argument, usage });
                }
                (word, kind) => announced = word.is_some() && matches!(kind, Kind::Word(_)),
            }
        }
        Ok(Self { usage, words, options })
    }

    /// Returns an argument that is required. [`Self::of`] has checked that it is there.
    pub(super) fn required(&self, index: usize) -> &'a str {
        self.optional(index).unwrap_or_default()
    }

    pub(super) fn optional(&self, index: usize) -> Option<&'a str> {
        self.words.get(index).copied()
    }

    pub(super) fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }

    /// Returns an argument that this use of the command requires; `argument` is its name in the
    /// help.
    pub(super) fn needed(
        &self,
        index: usize,
        argument: &'static str,
    ) -> Result<&'a str, CommandError> {
        self.optional(index).ok_or(CommandError::Missing { argument, usage: self.usage })
    }

    /// Refuses arguments from this one on.
    pub(super) fn no_more(&self, index: usize) -> Result<(), CommandError> {
        self.optional(index).map_or(Ok(()), |word| {
            Err(CommandError::Surplus { word: word.to_string(), usage: self.usage })
        })
    }

    pub(super) fn size(&self, index: usize, argument: &'static str) -> Result<u64, CommandError> {
        let word = self.needed(index, argument)?;
        let none = || CommandError::NotASize { word: word.to_string(), usage: self.usage };
        parse_size(word).ok_or_else(none)
    }

    pub(super) fn number(&self, index: usize, most: u64) -> Result<Option<u64>, CommandError> {
        let Some(word) = self.optional(index) else {
            return Ok(None);
        };
        match word.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(Some(number)),
            _ => Err(self.not_a_number(word, 1, most)),
        }
    }

    pub(super) fn not_a_number(&self, word: &str, least: u64, most: u64) -> CommandError {
        CommandError::NotANumber { word: word.to_string(), least, most, usage: self.usage }
    }

    /// Returns the names in a list of guests; an empty list means all guests.
    pub(super) fn guests(&self, index: usize) -> Result<Vec<&'a str>, CommandError> {
        let list = self.required(index);
        if list == ALL {
            return Ok(Vec::new());
        }
        let guests: Vec<&str> = list.split(SEPARATOR).collect();
        let repeats = |(at, guest)| guests[..at].contains(guest);
        let problem = if guests.contains(&"") {
            "a guest without a name"
        } else if guests.iter().enumerate().any(repeats) {
            "a guest twice"
        } else {
            return Ok(guests);
        };
        Err(CommandError::GuestList { list: list.to_string(), problem })
    }
}
