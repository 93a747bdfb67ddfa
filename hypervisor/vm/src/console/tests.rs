use std::format;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::command::{find_guest, parse, write_help};
use super::table::{GuestRow, StoreRow, write_guests, write_store};
use super::*;

/// A console at its prompt, and its terminal.
struct Bench {
    console: Console,
    terminal: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { console: Console::new(), terminal: Vec::new() };
        bench.console.prompt(&mut bench.terminal);
        bench
    }

    /// Types `bytes`; answers each command with `ok`. Returns what came of it.
    fn type_in(&mut self, bytes: &[u8]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for &byte in bytes {
            let input = self.console.input(byte, &mut self.terminal);
            if let Input::Line(line) = &input {
                if let Some(name) = line.strip_prefix("attach ") {
                    self.console.attach(1, name, &mut self.terminal);
                }
                self.console.answer(Ok::<(), CommandError>(()), &mut self.terminal);
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

    fn output(&mut self, guest: usize, bytes: &[u8]) {
        self.console.output(guest, bytes, &mut self.terminal);
    }

    /// What was shown since the last call.
    fn shown(&mut self) -> String {
        String::from_utf8_lossy(&core::mem::take(&mut self.terminal)).into_owned()
    }
}

#[test]
fn a_line_is_echoed_and_handed_out_whatever_ends_it() {
    for end in ["\r", "\n", "\r\n"] {
        let mut bench = Bench::new();
        let twice = format!("guests{end}store{end}");
        assert_eq!(bench.lines(twice.as_bytes()), ["guests", "store"]);
        assert_eq!(
            bench.shown(),
            "stasis> guests\r\nok\r\nstasis> store\r\nok\r\nstasis> ",
            "{end:?}"
        );
    }
}

#[test]
fn an_empty_line_only_gets_the_prompt_again() {
    let mut bench = Bench::new();
    assert!(bench.lines(b"\r  \r").is_empty());
    assert_eq!(bench.shown(), "stasis> \r\nstasis>   \r\nstasis> ");
}

#[test]
fn backspace_delete_and_ctrl_u_take_back() {
    let mut bench = Bench::new();
    assert_eq!(bench.lines(b"storx\x08e\r"), ["store"]);
    assert_eq!(bench.lines(b"\x7f\x7fstorx\x7fe\r"), ["store"]);
    assert_eq!(bench.lines(b"rubbish\x15store\r"), ["store"]);
}

#[test]
fn ctrl_c_gives_a_line_up() {
    let mut bench = Bench::new();
    assert!(bench.lines(b"quit\x03").is_empty());
    assert_eq!(bench.shown(), "stasis> quit^C\r\nstasis> ");
    assert_eq!(bench.lines(b"\r\nstore\r"), ["store"]);
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_next_is_not() {
    let mut bench = Bench::new();
    let mut long = vec![b'x'; line::MAX_LINE];
    long.push(b'\r');
    assert_eq!(bench.lines(&long).len(), 1);
    long.insert(0, b'x');
    bench.shown();
    assert!(bench.lines(&long).is_empty());
    let message = "\x07\r\nerror: the line is longer than 256 characters\r\nstasis> ";
    assert!(bench.shown().ends_with(message));
    assert_eq!(bench.lines(b"store\r"), ["store"]);
}

#[test]
fn a_line_with_a_foreign_character_is_refused_whole() {
    let mut bench = Bench::new();
    assert!(bench.lines("pause gäst\r".as_bytes()).is_empty());
    let message = "error: the line has a character that is not ASCII (byte 0xc3)\r\nstasis> ";
    assert!(bench.shown().ends_with(message));
    assert_eq!(bench.lines("ä\x15store\r".as_bytes()), ["store"], "Ctrl-U starts again");
}

#[test]
fn the_arrows_recall_earlier_lines() {
    let mut bench = Bench::new();
    bench.lines(b"one\rtwo\rtwo\r");
    assert_eq!(bench.lines(b"\x1b[A\r"), ["two"]);
    assert_eq!(bench.lines(b"\x1bOA\x1bOA\r"), ["one"], "a repeated line is remembered once");
    bench.lines(b"two\r");
    let draft = b"dra\x1b[A\x1b[A\x1b[B\x1b[B\x1b[Bft\r";
    assert_eq!(bench.lines(draft), ["draft"], "the new line is still there, below the history");
    let mut many = Bench::new();
    for number in 0..40 {
        many.lines(format!("line{number}\r").as_bytes());
    }
    let up = b"\x1b[A".repeat(100);
    assert_eq!(many.lines(&[&up[..], b"\r"].concat()), ["line24"], "the oldest of sixteen");
}

#[test]
fn other_keys_are_ignored_whole() {
    let mut bench = Bench::new();
    assert_eq!(bench.lines(b"sto\x1b[C\x1b[1;5D\x1b[3~\x1b[15~\x1bOPre\r"), ["store"]);
    assert_eq!(bench.lines(b"sto\x1b[\rx\r"), ["sto", "x"], "a line's end ends a sequence too");
    assert_eq!(bench.lines(b"\0sto\tre\x1d\r"), ["store"]);
}

#[test]
fn each_command_is_understood() {
    let cases = [
        ("help", Command::Help(None)),
        ("help resume", Command::Help(Some("resume"))),
        ("guests", Command::Guests),
        ("pause linux", Command::Pause("linux")),
        ("unpause 1", Command::Unpause("1")),
        ("checkpoint linux", Command::Checkpoint { guest: "linux", name: None }),
        ("  checkpoint\t1 before ", Command::Checkpoint { guest: "1", name: Some("before") }),
        ("resume 3", Command::Resume { which: "3", any_speed: false }),
        ("resume 3 --any-speed", Command::Resume { which: "3", any_speed: true }),
        ("delete before", Command::Delete("before")),
        ("attach linux", Command::Attach("linux")),
        ("store", Command::Store),
        ("gic linux", Command::Gic("linux")),
        ("quit", Command::Quit),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
}

#[test]
fn mistyped_input_gets_an_answer() {
    let cases = [
        ("", "no command"),
        (
            "chekpoint 1",
            "no command \"chekpoint\"; did you mean \"checkpoint\"? (\"help\" lists them)",
        ),
        ("reboot", "no command \"reboot\" (\"help\" lists them)"),
        ("help puase", "no command \"puase\"; did you mean \"pause\"? (\"help\" lists them)"),
        ("pause", "<guest> is missing; usage: pause <guest>"),
        ("checkpoint", "<guest> is missing; usage: checkpoint <guest> [name]"),
        ("resume", "<number|name> is missing; usage: resume <number|name> [--any-speed]"),
        ("resume 3 now", "\"now\" is no option; usage: resume <number|name> [--any-speed]"),
        ("guests all", "\"all\" is one argument too many; usage: guests"),
        ("checkpoint 1 a b c", "\"b\" is one argument too many; usage: checkpoint <guest> [name]"),
        ("\x1b[2J", "no command \"\\u{1b}[2J\" (\"help\" lists them)"),
    ];
    for (line, message) in cases {
        assert_eq!(parse(line).unwrap_err().to_string(), message);
    }
}

#[test]
fn help_has_a_line_for_every_command_and_explains_each() {
    let mut help = String::new();
    write_help(&mut help, None).unwrap();
    assert_eq!(help.lines().count(), 11);
    assert!(
        help.contains("  checkpoint <guest> [name]           store a guest's state and memory\n")
    );
    for line in help.lines() {
        let word = line.split_ascii_whitespace().next().unwrap();
        let mut one = String::new();
        write_help(&mut one, Some(word)).unwrap();
        assert!(one.starts_with(word), "{one}");
    }
    let mut one = String::new();
    write_help(&mut one, Some("attach")).unwrap();
    assert!(one.starts_with("attach <guest>: connect this terminal to a guest's\n"));
}

const GUESTS: [GuestRow<'_>; 2] = [
    GuestRow {
        number: 1,
        name: "linux",
        state: "running",
        vcpus: 2,
        memory: 256 << 20,
        cores: &[1, 2],
    },
    GuestRow { number: 12, name: "counter", state: "off", vcpus: 1, memory: 16 << 20, cores: &[] },
];

#[test]
fn a_guest_is_found_by_name_and_number() {
    assert_eq!(find_guest(&GUESTS, "counter"), Ok(1));
    assert_eq!(find_guest(&GUESTS, "12"), Ok(1));
    assert_eq!(
        find_guest(&GUESTS, "2").unwrap_err().to_string(),
        "no guest \"2\"; there are: 1 linux, 12 counter"
    );
    assert_eq!(find_guest(&[], "2").unwrap_err().to_string(), "no guest \"2\"; there is none");
}

#[test]
fn the_guests_are_listed_in_columns() {
    let mut out = String::new();
    write_guests(&mut out, &GUESTS).unwrap();
    assert_eq!(
        out,
        "  number  name     state    vCPUs   memory  core\n\
        \x20      1  linux    running      2  256 MiB  1,2\n\
        \x20     12  counter  off          1   16 MiB  -\n"
    );
    let mut out = String::new();
    write_guests(&mut out, &[]).unwrap();
    assert_eq!(out, "no guests\n");
}

#[test]
fn the_checkpoints_are_listed_with_size_and_time() {
    let row = |number, size, pages, when| StoreRow { number, name: "linux", size, pages, when };
    let rows = [
        row(1, 999, None, 0),
        row(2, 1536, Some(5120), 951_782_399),
        row(3, 20_987_456, Some(5120), 1_795_361_445),
        row(4, u64::MAX, Some(u64::MAX), 4_107_542_400),
    ];
    let mut out = String::new();
    write_store(&mut out, &rows[..3]).unwrap();
    assert_eq!(
        out,
        "  number  name       size  pages  when (UTC)\n\
        \x20      1  linux     999 B      -  -\n\
        \x20      2  linux   1.5 KiB   5120  2000-02-28 23:59:59\n\
        \x20      3  linux  20.0 MiB   5120  2026-11-22 15:30:45\n"
    );
    let mut out = String::new();
    write_store(&mut out, &rows[3..]).unwrap();
    assert!(out.contains("2100-03-01 00:00:00"), "{out}");
    let mut out = String::new();
    write_store(&mut out, &[row(u64::MAX, 0, None, u64::MAX)]).unwrap();
    write_store(&mut out, &[]).unwrap();
    assert!(out.ends_with("no checkpoints\n"));
}

#[test]
fn a_detached_guest_is_kept_and_shown_at_the_next_attach() {
    let mut bench = Bench::new();
    bench.output(1, b"booting\r\n");
    bench.output(2, b"another\r\n");
    assert_eq!(bench.shown(), "stasis> ");
    bench.type_in(b"attach linux\r");
    assert_eq!(
        bench.shown(),
        "attach linux\r\nattached to \"linux\"; Ctrl-] detaches\r\nok\r\nbooting\r\n"
    );
    bench.output(1, b"\xff raw\n");
    bench.output(2, b"hidden");
    assert_eq!(core::mem::take(&mut bench.terminal), b"\xff raw\n", "byte for byte");
    bench.type_in(b"\x1d");
    assert_eq!(bench.shown(), "\r\n[detached from \"linux\"]\r\nstasis> ");
    bench.type_in(b"attach linux\r");
    assert!(bench.shown().ends_with("ok\r\n"), "nothing is shown twice");
}

#[test]
fn all_input_goes_to_the_attached_guest_but_ctrl_bracket() {
    let mut bench = Bench::new();
    bench.type_in(b"attach linux\r");
    let inputs = bench.type_in(b"\x03q\r\xc3\x1dstore\r");
    let bytes = [0x03, b'q', b'\r', 0xc3].map(|byte| Input::Guest { guest: 1, byte });
    assert_eq!(inputs[..4], bytes);
    assert_eq!(inputs[4], Input::Line("store".to_string()));
}

#[test]
fn the_last_16_kib_are_kept_and_the_loss_is_told() {
    let mut bench = Bench::new();
    for _ in 0..1024 {
        bench.output(1, b"0123456789abcdef\n");
    }
    bench.type_in(b"attach linux\r");
    let shown = bench.shown();
    let (_, kept) = shown.split_once("[1024 bytes before this are lost]\r\n").unwrap();
    assert_eq!(kept.len(), 16 << 10);
    assert!(kept.ends_with("0123456789abcdef\n"));
    bench.type_in(b"\x1d");
    bench.output(1, &[b'x'; 20_000]);
    bench.type_in(b"attach linux\r");
    assert!(bench.shown().contains("[3616 bytes before this are lost]\r\nxxx"));
}

#[test]
fn a_halted_guest_is_told_and_detached() {
    let mut bench = Bench::new();
    bench.type_in(b"attach linux\r");
    bench.shown();
    bench.console.halted(2, "other", "crashed", &mut bench.terminal);
    assert_eq!(bench.shown(), "\r\n[guest \"other\": crashed]\r\n");
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    assert_eq!(bench.shown(), "\r\n[guest \"linux\": powered off]\r\nstasis> ");
    assert_eq!(bench.console.attached(), None);
    assert_eq!(bench.lines(b"store\r"), ["store"]);
}

#[test]
fn a_notice_leaves_what_is_being_typed() {
    let mut bench = Bench::new();
    bench.type_in(b"sto");
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    assert_eq!(bench.shown(), "\r\n[guest \"linux\": powered off]\r\nstasis> sto");
    assert_eq!(bench.lines(b"re\r"), ["store"]);
}

#[test]
fn a_guest_that_halts_while_it_is_being_attached_leaves_the_prompt() {
    let mut bench = Bench::new();
    for byte in *b"attach linux\r" {
        bench.console.input(byte, &mut bench.terminal);
    }
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    bench.console.answer(Ok::<(), CommandError>(()), &mut bench.terminal);
    assert_eq!(bench.shown(), "[guest \"linux\": powered off]\r\nok\r\nstasis> ");
}

#[test]
fn an_error_is_one_line() {
    let mut bench = Bench::new();
    let error = parse("pause").map(|_| ());
    bench.console.answer(error, &mut bench.terminal);
    assert_eq!(
        bench.shown(),
        "stasis> error: <guest> is missing; usage: pause <guest>\r\nstasis> "
    );
}

#[test]
fn what_was_kept_is_forgotten_for_a_new_guest() {
    let mut bench = Bench::new();
    bench.output(1, b"old");
    bench.console.forget(1);
    bench.type_in(b"attach linux\r");
    assert!(bench.shown().ends_with("ok\r\n"));
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(
        prop_oneof![any::<u8>(), prop::sample::select(&b"\x1b[AB\r\n\x7f\x15\x03\x1dO a"[..])], 0..600))
    {
        let mut bench = Bench::new();
        for &byte in &bytes {
            if let Input::Line(line) = bench.console.input(byte, &mut bench.terminal) {
                prop_assert!(line.len() <= line::MAX_LINE && line.is_ascii());
                let result = parse(&line).map(|_| ());
                bench.console.answer(result, &mut bench.terminal);
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
        // Rubbing out writes a space and goes back over it, so popping twice and pushing once matches a terminal.
        prop_assert_eq!(&lines[0], &screen);
    }
}
