//! The console at a terminal that a test types at and reads. The tests below are of any input; the
//! files beside have the others, by subject.

mod attached;
mod commands;
mod lines;
mod said;
mod tables;

use std::format;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::command::{
    List, Window, find_guest, find_guests, list_for, parse, words_for, write_help,
};
use crate::table::{GuestRow, SetAsideRow, StoreRow, VolumeRow};
use crate::terminal::Text;
use crate::{line, table};

/// A console at its prompt, its terminal, and what can be named.
struct Bench {
    console: Console,
    terminal: Vec<u8>,
    names: Names,
}

impl Bench {
    fn new() -> Self {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let names = Names {
            guests: names(&["linux", "counter", "counter-2"]),
            configured: names(&["linux", "probe"]),
            checkpoints: names(&["morning", "morning", "set-1/linux", "set-1/counter", "süß"]),
            ..Names::default()
        };
        let mut bench = Self { console: Console::new(), terminal: Vec::new(), names };
        bench.console.prompt(&mut bench.terminal);
        bench
    }

    /// Types `bytes`; answers each command with `ok`. Returns what came of it.
    fn type_in(&mut self, bytes: &[u8]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for &byte in bytes {
            let input = self.console.input(byte, &mut self.terminal);
            if input == Input::Complete {
                self.console.complete(&self.names, &mut self.terminal);
                continue;
            }
            if let Input::Line(line) = &input {
                if let Some(name) = line.strip_prefix("attach ") {
                    self.console.attach(1, name, &mut self.terminal);
                }
                self.answer(Ok(()));
            }
            if input != Input::Nothing {
                inputs.push(input);
            }
        }
        inputs
    }

    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        let line = |input| match input {
            Input::Line(line) => line,
            other => panic!("{other:?}"),
        };
        self.type_in(bytes).into_iter().map(line).collect()
    }

    /// Answers a command, and shows all that has waited for that.
    fn answer(&mut self, result: Result<(), CommandError>) {
        self.console.answer(result, &mut self.terminal);
        while self.console.show(&mut self.terminal) {}
    }

    /// Begins a command, which [`Self::answer`] ends.
    fn begin(&mut self, line: &str) {
        for byte in format!("{line}\r").bytes() {
            self.console.input(byte, &mut self.terminal);
        }
        self.shown();
    }

    fn log(&mut self, line: &str) {
        self.console.log(format_args!("{line}"), &mut self.terminal);
    }

    fn output(&mut self, guest: usize, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.console.output(guest, *byte, &mut self.terminal));
    }

    /// Returns what was shown since the last call.
    fn shown(&mut self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.terminal)).into_owned()
    }
}

const GUESTS: [GuestRow<'_>; 2] = [
    GuestRow {
        number: 1,
        name: "linux",
        state: "running",
        vcpus: 2,
        memory: 256 << 20,
        own: 3 << 20,
        shared: 253 << 20,
        to_load: 3 << 19,
        changed: 8192,
        cores: &[1, 2],
    },
    GuestRow {
        number: 12,
        name: "counter",
        state: "off",
        vcpus: 1,
        memory: 16 << 20,
        own: 16 << 20,
        shared: 0,
        to_load: 0,
        changed: 0,
        cores: &[],
    },
];

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    write(&mut out).unwrap();
    out
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(&b"\x1b[AB\r\n\t\x7f\x15\x03\x1dO a"[..])], 0..600))
    {
        let mut bench = Bench::new();
        for &byte in &bytes {
            let input = bench.console.input(byte, &mut bench.terminal);
            if input == Input::Complete {
                bench.console.complete(&bench.names, &mut bench.terminal);
            }
            if let Input::Line(line) = input {
                prop_assert!(line.len() <= line::MAX_LINE && line.is_ascii());
                let result = parse(&line).map(|_| ());
                bench.answer(result);
            }
        }
    }

    #[test]
    fn no_line_panics(line: String) {
        if let Err(error) = parse(&line) {
            prop_assert!(!error.to_string().contains(char::is_control));
        }
        let words = ["check", "resume", "pause", "help"].map(|word| format!("{word} {line}"));
        words.iter().for_each(|line| drop(parse(line)));
        let names = Bench::new().names;
        words.iter().for_each(|line| drop(complete(line, &names)));
    }

    #[test]
    fn the_screen_shows_the_line_that_is_handed_out(
        bytes in prop::collection::vec(prop::sample::select(&b"abc \x7f\x08\x15"[..]), 0..60))
    {
        let mut bench = Bench::new();
        bench.type_in(b"earlier line\r");
        bench.shown();
        let mut bytes = bytes;
        bytes.extend(b"\x1b[A\x1b[B|\r");
        let lines = bench.lines(&bytes);
        let mut screen = String::new();
        for character in bench.shown().split('\r').next().unwrap().chars() {
            match character {
                '\x08' => drop(screen.pop()),
                other => screen.push(other),
            }
        }
        // Rubbing out writes a space and goes back over it, so popping twice and pushing once
        // matches a terminal.
        prop_assert_eq!(&lines[0], &screen);
    }
}
