//! What is typed, and the line that comes of it.

use super::*;

#[test]
fn a_line_that_was_begun_is_shown_again_and_not_carried_out() {
    let (mut console, mut terminal) = (Console::new(), Vec::new());
    console.prompt(&mut terminal);
    b"quit".iter().for_each(|byte| drop(console.input(*byte, &mut terminal)));
    terminal.clear();
    console.redraw(&mut terminal);
    assert_eq!(terminal, b"\r\nstasis> quit");
    assert_eq!(console.input(b'\r', &mut terminal), Input::Line("quit".to_string()));
    terminal.clear();
    console.redraw(&mut terminal);
    assert_eq!(terminal, b"", "a command is under way");
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
fn tab_completes_what_is_clear() {
    let cases = [
        ("gu", "guests"),
        ("checkpoint li", "checkpoint linux"),
        ("checkpoint linux,c", "checkpoint linux,counter"),
        ("checkpoint al", "checkpoint all"),
        ("pause 1\t", "pause 1"),
        ("start p", "start probe"),
        ("start linux,p", "start linux,probe"),
        ("stop al", "stop all"),
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
fn a_shell_is_offered_whole_words() {
    let bench = Bench::new();
    let words = |line: &str| words_for(line, &bench.names).join(" ");
    assert_eq!(words("pause "), "all counter counter-2 linux");
    assert_eq!(words("pause linux,c"), "linux,counter linux,counter-2");
    assert_eq!(words("resume set-1/"), "set-1/counter set-1/linux");
    assert_eq!(words("gu"), "guests");
    assert_eq!(words("nonsense x"), "");
}

#[test]
fn one_list_of_names_at_the_most_has_what_a_word_could_become() {
    for (line, list) in [
        ("attach co", Some(List::Guests)),
        ("start ", Some(List::Guests)),
        ("resume m", Some(List::Checkpoints)),
        ("resume 1 as ", None),
        ("volume copy r", Some(List::Volumes)),
        ("guests --j", None),
        ("gu", None),
        ("nonsense x", None),
    ] {
        assert_eq!(list_for(line), list, "{line}");
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
fn a_notice_leaves_what_is_being_typed() {
    let mut bench = Bench::new();
    bench.type_in(b"sto");
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    assert_eq!(bench.shown(), "\r\n[guest \"linux\": powered off]\r\nstasis> sto");
    assert_eq!(bench.lines(b"re\r"), ["store"]);
}

#[test]
fn an_error_is_one_line() {
    let mut bench = Bench::new();
    let error = parse("pause").map(|_| ());
    bench.answer(error);
    assert_eq!(
        bench.shown(),
        "stasis> error: <guests> is missing; usage: pause <guests>\r\nstasis> "
    );
}
