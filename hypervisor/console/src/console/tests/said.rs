//! What Stasis says by itself, beside answers and guests.

use super::*;

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
fn the_log_can_be_read_again_whoever_had_the_terminal() {
    let mut bench = Bench::new();
    bench.log("first");
    bench.begin("store");
    bench.log("during\nan answer");
    bench.console.notice(format_args!("guest \"linux\" is off"), &mut bench.terminal);
    bench.answer(Ok(()));
    let log = |lines| {
        let mut log = String::new();
        bench.console.write_own_log(lines, &mut log).unwrap();
        log
    };
    assert_eq!(log(9), "| first\n| during\\nan answer\n| [guest \"linux\" is off]\n");
    assert_eq!(log(1), "| [guest \"linux\" is off]\n");
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
