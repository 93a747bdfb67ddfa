use std::format;
use std::string::ToString;
use std::vec;

use proptest::prelude::*;

use super::*;
use crate::command::{find_guest, find_guests, parse, write_help};
use crate::table::{GuestRow, StoreRow};
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
        self.console.output(guest, bytes, &mut self.terminal);
    }

    /// Returns what was shown since the last call.
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
    assert_eq!(bench.lines(b"\0sto\x1dre\x1d\r"), ["store"]);
}

#[test]
fn each_command_is_understood() {
    let of = |guests: &[&'static str], name| Command::Checkpoint { guests: guests.to_vec(), name };
    let cases = [
        ("help", Command::Help(None)),
        ("help resume", Command::Help(Some("resume"))),
        ("guests", Command::Guests { json: false }),
        ("guests --json", Command::Guests { json: true }),
        ("top", Command::Top { seconds: None, times: 1, json: false }),
        ("top 2", Command::Top { seconds: Some(2), times: 1, json: false }),
        ("top --json 2 10", Command::Top { seconds: Some(2), times: 10, json: true }),
        ("pause linux", Command::Pause("linux")),
        ("unpause 1", Command::Unpause("1")),
        ("shutdown linux", Command::Shutdown("linux")),
        ("stop linux", Command::Stop("linux")),
        ("start linux", Command::Start("linux")),
        ("restart linux", Command::Restart("linux")),
        ("remove linux", Command::Remove("linux")),
        ("checkpoint linux", of(&["linux"], None)),
        ("  checkpoint\t1 before ", of(&["1"], Some("before"))),
        ("checkpoint linux,1 before ", of(&["linux", "1"], Some("before"))),
        ("checkpoint all", of(&[], None)),
        ("resume 3", Command::Resume { which: "3", copy: None, any_speed: false }),
        (
            "resume 3 --any-speed as twin",
            Command::Resume { which: "3", copy: Some("twin"), any_speed: true },
        ),
        ("resume set-1/", Command::Resume { which: "set-1/", copy: None, any_speed: false }),
        ("delete before", Command::Delete("before")),
        ("attach linux", Command::Attach("linux")),
        ("log linux", Command::Log { guest: "linux", lines: 24 }),
        ("log linux 3", Command::Log { guest: "linux", lines: 3 }),
        ("store", Command::Store { json: false }),
        ("gic linux", Command::Gic("linux")),
        ("cancel", Command::Cancel),
        ("quit", Command::Quit),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
}

#[test]
fn a_question_mark_asks_for_help() {
    assert_eq!(parse("?"), Ok(Command::Help(None)));
    assert_eq!(parse("? top"), Ok(Command::Help(Some("top"))));
    assert!(parse("help ?").is_ok());
}

#[test]
fn mistyped_input_gets_an_answer() {
    let cases = [
        ("", "no command"),
        (
            "chekpoint 1",
            "no command \"chekpoint\"; did you mean \"checkpoint\"? (\"help\" lists them)",
        ),
        ("exit", "no command \"exit\"; did you mean \"quit\"? (\"help\" lists them)"),
        ("reboot", "no command \"reboot\" (\"help\" lists them)"),
        ("help puase", "no command \"puase\"; did you mean \"pause\"? (\"help\" lists them)"),
        ("pause", "<guest> is missing; usage: pause <guest>"),
        ("checkpoint", "<guests> is missing; usage: checkpoint <guests> [name]"),
        (
            "resume",
            "<number|name|set/> is missing; usage: resume <number|name|set/> [as <new name>] [--any-speed]",
        ),
        (
            "resume 1 as",
            "<new name> is missing; usage: resume <number|name|set/> [as <new name>] [--any-speed]",
        ),
        (
            "resume 1 is twin",
            "\"is\" stands where only \"as\" can; usage: resume <number|name|set/> [as <new name>] [--any-speed]",
        ),
        ("guests all", "\"all\" is one argument too many; usage: guests [--json]"),
        ("guests --jsno", "\"--jsno\" is no option of it; usage: guests [--json]"),
        ("checkpoint 1 a b c", "\"b\" is one argument too many; usage: checkpoint <guests> [name]"),
        ("checkpoint a,,b", "\"a,,b\" names a guest without a name"),
        ("checkpoint a,b,a", "\"a,b,a\" names a guest twice"),
        ("top 0", "\"0\" is no number from 1 to 3600; usage: top [seconds] [times] [--json]"),
        ("log linux x", "\"x\" is no number from 1 to 16384; usage: log <guest> [lines]"),
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
    assert_eq!(help.lines().count(), 20);
    assert!(
        help.contains(
            "  pause <guest>                                            stop a guest's time\n"
        ),
        "{help}"
    );
    for line in help.lines() {
        let word = line.split_ascii_whitespace().next().unwrap();
        let mut one = String::new();
        write_help(&mut one, Some(word)).unwrap();
        assert!(one.starts_with(word) && one.lines().count() > 1, "{one}");
        assert!(one.lines().all(|line| line.len() <= 110), "{one}");
    }
    let mut one = String::new();
    write_help(&mut one, Some("attach")).unwrap();
    assert!(one.starts_with("attach <guest>: connect this terminal to a guest's\n"));
}

#[test]
fn tab_completes_what_is_clear() {
    let cases = [
        ("gu", "guests"),
        ("checkpoint li", "checkpoint linux"),
        ("checkpoint linux,c", "checkpoint linux,counter"),
        ("checkpoint al", "checkpoint all"),
        ("pause 1\t", "pause 1"),
        ("start p", "start probe"),
        ("help res\tu\t", "help resume"),
        ("resume m", "resume morning"),
        ("resume morning a\ttwin", "resume morning as twin"),
        ("resume s\tl", "resume set-1/linux"),
        ("delete set", "delete set-1/"),
        ("store --", "store --json"),
        ("top 1 2 -", "top 1 2 --json"),
    ];
    for (typed, line) in cases {
        let mut bench = Bench::new();
        let lines = bench.lines(format!("{typed}\t\r").as_bytes());
        assert_eq!(lines[0].trim_end(), line, "{typed}");
        assert!(bench.shown().contains(line), "{typed}: it is echoed");
    }
}

#[test]
fn tab_shows_the_choices_where_there_are_several() {
    let mut bench = Bench::new();
    bench.type_in(b"pause co\t");
    assert_eq!(bench.shown(), "stasis> pause counter", "as far as it is clear");
    bench.type_in(b"\t");
    assert_eq!(bench.shown(), "\r\ncounter  counter-2\r\nstasis> pause counter");
    assert_eq!(bench.lines(b"\r"), ["pause counter"]);
    bench.shown();
    bench.type_in(b"re\t");
    assert_eq!(bench.shown(), "re\r\nremove  restart  resume\r\nstasis> re");
    bench.type_in(b"\x15resume \t");
    assert!(
        bench.shown().contains("\r\nmorning  set-1/\r\nstasis> resume "),
        "no set is shown twice"
    );
}

#[test]
fn tab_does_nothing_but_ring_where_nothing_fits() {
    for typed in [
        "xyz",
        "attach nobody",
        "quit ",
        "pause linux l",
        "nothing l",
        "guests --x",
        "resume s\u{fc}",
    ] {
        let mut bench = Bench::new();
        bench.type_in(typed.as_bytes());
        bench.shown();
        bench.type_in(b"\t");
        let shown = bench.shown();
        assert!(shown == "\x07" || shown.is_empty(), "{typed}: {shown:?}");
    }
    let mut attached = Bench::new();
    attached.type_in(b"attach linux\r");
    assert_eq!(attached.type_in(b"\t"), [Input::Guest { guest: 1, character: b'\t'.into() }]);
}

#[test]
fn a_break_on_the_line_is_the_attached_guests_and_nobodys_else() {
    let mut bench = Bench::new();
    assert_eq!(bench.console.input(Character::BREAK, &mut bench.terminal), Input::Nothing);
    assert_eq!(bench.lines(b"attach linux\r"), ["attach linux"]);
    let character = Character::BREAK;
    let input = bench.console.input(character, &mut bench.terminal);
    assert_eq!(input, Input::Guest { guest: 1, character });
}

#[test]
fn the_key_for_a_break_goes_back_to_the_guest_that_was_just_left() {
    let sent = [Input::Guest { guest: 1, character: Character::BREAK }];
    let mut bench = Bench::new();
    bench.type_in(b"attach linux\r");
    bench.shown();
    assert_eq!(bench.type_in(b"\x1db"), sent);
    assert!(bench.shown().ends_with("\r\n[break sent to \"linux\"]\r\n"));
    assert_eq!(bench.console.attached(), Some(1));
    // Right behind the other key alone: any other byte begins a command, as before.
    assert_eq!(bench.lines(b"\x1db"[..1].as_ref()), [""; 0]);
    assert_eq!(bench.lines(b"log b\r"), ["log b"]);
    assert_eq!(bench.lines(b"bogus\r"), ["bogus"]);
    assert_eq!(bench.console.attached(), None);
    // Nor does it go back to a guest that is gone.
    bench.type_in(b"attach linux\r\x1d");
    bench.console.forget(1);
    assert_eq!(bench.type_in(b"b"), []);
}

#[test]
fn no_command_begins_with_the_key_for_a_break() {
    let mut help = String::new();
    write_help(&mut help, None).unwrap();
    assert!(help.contains("send-break") && help.lines().all(|line| !line.trim().starts_with('b')));
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
fn several_guests_are_found_in_the_order_of_the_words_and_all_if_none_is_named() {
    assert_eq!(find_guests(&GUESTS, &["counter", "1"]), Ok(vec![1, 0]));
    assert_eq!(find_guests(&GUESTS, &[]), Ok(vec![0, 1]));
    let why = |guests: &[GuestRow<'_>], words: &[&str]| {
        find_guests(guests, words).unwrap_err().to_string()
    };
    assert_eq!(why(&[], &[]), "there is no guest");
    assert_eq!(why(&GUESTS, &["counter", "12"]), "guest \"counter\" is named twice");
    assert!(why(&GUESTS, &["linux", "nobody"]).starts_with("no guest \"nobody\""));
}

fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    write(&mut out).unwrap();
    out
}

#[test]
fn the_guests_are_listed_in_columns() {
    assert_eq!(
        written(|out| table::guests(&GUESTS).write(out, false)),
        "  number  name     state    vCPUs   memory  core\n\
        \x20      1  linux    running      2  256 MiB  1,2\n\
        \x20     12  counter  off          1   16 MiB  -\n"
    );
    assert_eq!(written(|out| table::guests(&[]).write(out, false)), "no guests\n");
}

#[test]
fn the_guests_are_listed_for_a_program() {
    assert_eq!(
        written(|out| table::guests(&GUESTS).write(out, true)),
        "{\"number\":1,\"name\":\"linux\",\"state\":\"running\",\"vcpus\":2,\"memory\":268435456,\"cores\":[1,2]}\n\
         {\"number\":12,\"name\":\"counter\",\"state\":\"off\",\"vcpus\":1,\"memory\":16777216,\"cores\":[]}\n"
    );
    assert_eq!(written(|out| table::guests(&[]).write(out, true)), "");
}

#[test]
fn the_checkpoints_are_listed_with_size_and_time() {
    let row = |number, size, pages, when| StoreRow {
        number,
        name: "linux",
        size,
        pages,
        when,
        member: None,
    };
    let rows = [
        row(1, 999, None, 0),
        row(2, 1536, Some(5120), 951_782_399),
        StoreRow { member: Some((1, 3)), ..row(3, 20_987_456, Some(5120), 1_795_361_445) },
        row(4, u64::MAX, Some(u64::MAX), 4_107_542_400),
    ];
    let listed = |rows: &[StoreRow<'_>]| written(|out| table::store(rows).write(out, false));
    assert_eq!(
        listed(&rows[..3]),
        "  number  name        size  pages  when (UTC)           of set\n\
        \x20      1  linux  999 bytes      -  -                    -\n\
        \x20      2  linux    1.5 KiB   5120  2000-02-28 23:59:59  -\n\
        \x20      3  linux   20.0 MiB   5120  2026-11-22 15:30:45  2 of 3\n"
    );
    assert!(listed(&rows[3..]).contains("2100-03-01 00:00:00"));
    listed(&[row(u64::MAX, 0, None, u64::MAX)]);
    assert_eq!(listed(&[]), "no checkpoints\n");
    let odd = StoreRow { name: "a\"b\\", ..row(7, 999, None, 0) };
    assert_eq!(
        written(|out| table::store(&[odd]).write(out, true)),
        "{\"number\":7,\"name\":\"a\\\"b\\\\\",\"size\":999,\"pages\":null,\"when\":null,\"member\":null}\n"
    );
}

#[test]
fn a_guest_that_sends_more_than_the_terminal_takes_is_passed_over_with_a_word() {
    let mut bench = Bench::new();
    bench.output(1, &[b'x'; 1000]);
    for byte in *b"attach linux\r" {
        bench.console.input(byte, &mut bench.terminal);
    }
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.console.answer(Ok::<(), String>(()), &mut bench.terminal);
    bench.shown();
    while !bench.terminal.contains(&b'x') {
        bench.console.show(&mut bench.terminal);
    }
    let seen = bench.shown().matches('x').count();
    bench.console.skip(&mut bench.terminal);
    let said = format!("[{} bytes are lost]", 1000 - seen);
    assert!(seen < 1000 && bench.shown().contains(&said), "{seen} were seen");
    bench.output(1, b"new");
    assert_eq!(bench.shown(), "new", "what comes then is shown at once");
}

#[test]
fn the_last_lines_are_shown_again_whether_they_were_seen_or_not() {
    let mut bench = Bench::new();
    bench.output(1, b"one\r\ntwo\r\n");
    bench.type_in(b"attach linux\r");
    bench.output(1, b"three\r\nfo\x1b[2J\xffur\r\nok");
    bench.type_in(b"\x1d");
    bench.output(1, b"\r\nfive\tsix\rok\n");
    let log = |bench: &Bench, lines| written(|out| bench.console.write_log(1, lines, out));
    let all = "| one\n| two\n| three\n| fo\\u{1b}[2J\u{fffd}ur\n| ok\n| five six\\rok\n";
    assert_eq!(log(&bench, 100), all);
    assert_eq!(log(&bench, 1), "| five six\\rok\n");
    assert_eq!(written(|out| bench.console.write_log(2, 9, out)), "");
    bench.shown();
    bench.type_in(b"attach linux\r");
    assert!(bench.shown().ends_with("ok\r\n\r\nfive\tsix\rok\n"), "what nobody has seen, once");
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
    let bytes =
        [0x03, b'q', b'\r', 0xc3].map(|byte| Input::Guest { guest: 1, character: byte.into() });
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
    assert_eq!(bench.shown(), "[guest \"other\": crashed]\r\n");
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
    bench.begin("attach linux");
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    bench.answer(Ok(()));
    assert_eq!(bench.shown(), "ok\r\n[guest \"linux\": powered off]\r\nstasis> ");
}

#[test]
fn an_answer_is_one_piece_and_what_comes_meanwhile_stands_behind_it() {
    let mut bench = Bench::new();
    bench.begin("guests --json");
    say(&mut bench.terminal, format_args!("{{\"number\":0,"));
    bench.log("warning: nothing there");
    bench.console.notice(format_args!("guest \"linux\" has reset"), &mut bench.terminal);
    say(&mut bench.terminal, format_args!("\"name\":\"linux\"}}\n"));
    bench.answer(Ok(()));
    assert_eq!(
        bench.shown(),
        "{\"number\":0,\"name\":\"linux\"}\r\nok\r\n\
         warning: nothing there\r\n[guest \"linux\" has reset]\r\nstasis> "
    );
}

#[test]
fn what_comes_while_the_lines_that_waited_are_shown_stands_behind_them() {
    let mut bench = Bench::new();
    bench.begin("store");
    bench.log("the first one, of more than a piece");
    bench.console.answer(Ok::<(), CommandError>(()), &mut bench.terminal);
    assert!(bench.console.show(&mut bench.terminal));
    bench.log("the second");
    while bench.console.show(&mut bench.terminal) {}
    assert_eq!(
        bench.shown(),
        "ok\r\nthe first one, of more than a piece\r\nthe second\r\nstasis> "
    );
}

#[test]
fn lines_that_find_no_room_are_counted() {
    let mut bench = Bench::new();
    bench.begin("store");
    let line = "x".repeat(1022);
    (0..20).for_each(|_| bench.log(&line));
    bench.log("short, but behind those that are lost");
    bench.answer(Ok(()));
    let shown = bench.shown();
    assert_eq!(shown.matches(&line).count(), 16);
    assert!(shown.ends_with("x\r\n[5 lines more came, and are lost]\r\nstasis> "), "{shown}");
    bench.begin("store");
    bench.log("and there is room again");
    bench.answer(Ok(()));
    assert_eq!(bench.shown(), "ok\r\nand there is room again\r\nstasis> ");
}

#[test]
fn before_the_console_is_open_the_log_is_shown_as_it_comes() {
    let mut terminal = Vec::new();
    Console::new().log(format_args!("Stasis"), &mut terminal);
    assert_eq!(terminal, b"Stasis\r\n");
}

#[test]
fn nothing_that_is_said_can_look_like_an_answer_or_move_the_cursor() {
    const NAME: &str = "x\nok\r\n\u{1b}[2J";
    const SHOWN: &str = "x\\nok\\r\\n\\u{1b}[2J";
    let mut bench = Bench::new();
    bench.log(NAME);
    bench.console.notice(format_args!("guest \"{NAME}\""), &mut bench.terminal);
    assert_eq!(
        bench.shown(),
        format!("stasis> \r\n{SHOWN}\r\nstasis> \r\n[guest \"{SHOWN}\"]\r\nstasis> ")
    );
    bench.begin("resume 1");
    bench.log(NAME);
    bench.console.answer(Err(format!("guest \"{NAME}\"")), &mut bench.terminal);
    while bench.console.show(&mut bench.terminal) {}
    assert_eq!(bench.shown(), format!("error: guest \"{SHOWN}\"\r\n{SHOWN}\r\nstasis> "));
    // A command's lines, of which there may be several.
    write!(Text(&mut bench.terminal), "one\ntwo\u{1b}[2J\u{202e}\n").unwrap();
    assert_eq!(bench.shown(), "one\r\ntwo\\u{1b}[2J\\u{202e}\r\n");
}

#[test]
fn a_line_of_the_log_leaves_the_attached_guests_lines_whole() {
    let mut bench = Bench::new();
    bench.type_in(b"attach linux\r");
    bench.output(1, b"loop 16\nloop 1");
    bench.shown();
    bench.log("warning: nothing there");
    bench.output(1, b"7\n");
    assert_eq!(bench.shown(), "\r\nwarning: nothing there\r\nloop 17\n");
    bench.log("between two lines");
    assert_eq!(bench.shown(), "between two lines\r\n");
    bench.output(1, &[b'x'; 1000]);
    bench.shown();
    bench.log("in a line without an end");
    assert_eq!(bench.shown(), format!("\r\nin a line without an end\r\n{}", "x".repeat(256)));
}

#[test]
fn a_line_of_the_log_comes_behind_an_attach_and_before_the_guest() {
    let mut bench = Bench::new();
    bench.output(1, b"kept\n");
    bench.begin("attach linux");
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.shown();
    bench.log("meanwhile");
    bench.answer(Ok(()));
    assert_eq!(bench.shown(), "ok\r\nmeanwhile\r\nkept\n");
}

#[test]
fn what_comes_while_a_guest_is_being_shown_stays_behind_what_was_kept() {
    let kept = [b'k'; 2 * PIECE + 1];
    let mut bench = Bench::new();
    bench.output(1, &kept);
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.console.answer(Ok::<(), CommandError>(()), &mut bench.terminal);
    assert!(bench.console.show(&mut bench.terminal), "nothing has waited");
    bench.shown();
    assert!(bench.console.show(&mut bench.terminal));
    bench.output(1, b"later");
    assert_eq!(bench.shown(), "k".repeat(PIECE), "a piece, and not what came");
    while bench.console.show(&mut bench.terminal) {}
    bench.output(1, b" live");
    assert_eq!(bench.shown(), "k".repeat(PIECE + 1) + "later live");
}

#[test]
fn a_guest_that_halts_while_it_is_being_shown_is_shown_to_its_end() {
    let mut bench = Bench::new();
    bench.output(1, &[b'k'; 2 * PIECE]);
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.console.answer(Ok::<(), CommandError>(()), &mut bench.terminal);
    assert!(bench.console.show(&mut bench.terminal), "nothing has waited");
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    let shown = bench.shown();
    assert!(shown.starts_with(&("k".repeat(2 * PIECE) + "\r\n[guest")), "{shown}");
}

#[test]
fn an_error_is_one_line() {
    let mut bench = Bench::new();
    let error = parse("pause").map(|_| ());
    bench.answer(error);
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
        // Rubbing out writes a space and goes back over it, so popping twice and pushing once matches a terminal.
        prop_assert_eq!(&lines[0], &screen);
    }
}
