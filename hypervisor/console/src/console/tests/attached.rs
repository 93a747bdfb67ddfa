//! What guests send and get, attached and not.

use super::*;
use crate::ring::CAPACITY;

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
fn a_guest_that_sends_more_than_the_terminal_takes_is_passed_over_with_a_word() {
    let mut bench = Bench::new();
    bench.console.attach(Port::terminal(1), "linux", &mut bench.terminal);
    bench.answer(Ok(()));
    bench.shown();
    bench.console.print(1, &[b'x'; 1000]);
    let (mut sent, mut seen) = (1000, 0);
    let skipped = loop {
        let has_more = bench.console.show(&mut bench.terminal);
        let shown = bench.shown();
        if let Some((_, behind)) = shown.split_once("\n[") {
            break behind.to_string();
        }
        assert!(has_more, "it is never done");
        seen += shown.len();
        bench.console.print(1, &[b'x'; PIECE]);
        sent += PIECE;
        assert!(sent < 4 * CAPACITY, "nothing is left out");
    };
    assert!(seen >= 2 * CAPACITY, "what can be there at first is shown twice over: {seen}");
    assert_eq!(skipped, format!("{} bytes are lost]\r\n", sent - seen));
    bench.console.print(1, b"new");
    assert!(!bench.console.show(&mut bench.terminal));
    assert_eq!(bench.shown(), "new", "what comes then is shown");
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
fn a_guest_that_halts_while_it_is_being_shown_is_cut_off_with_a_word() {
    let mut bench = Bench::new();
    bench.output(1, &[b'k'; 2 * PIECE]);
    bench.console.attach(1, "linux", &mut bench.terminal);
    bench.console.answer(Ok::<(), CommandError>(()), &mut bench.terminal);
    assert!(bench.console.show(&mut bench.terminal), "nothing has waited");
    bench.shown();
    bench.console.halted(1, "linux", "powered off", &mut bench.terminal);
    let shown = bench.shown();
    let expected = "\r\n[32 bytes are lost]\r\n\r\n[guest \"linux\": powered off]\r\nstasis> ";
    assert_eq!(shown, expected, "the terminal is too slow to show all of it under a lock");
}

#[test]
fn what_was_kept_is_forgotten_for_a_new_guest() {
    let mut bench = Bench::new();
    bench.output(1, b"old");
    bench.console.forget(1);
    bench.type_in(b"attach linux\r");
    assert!(bench.shown().ends_with("ok\r\n"));
}

#[test]
fn a_guests_terminal_is_a_port_of_its_own() {
    let mut bench = Bench::new();
    let attach = Command::Attach { guest: "linux", terminal: true };
    assert_eq!(parse("attach linux --terminal"), Ok(attach));
    assert!(!bench.console.print(1, b"early\n"), "nobody is attached");
    bench.begin("attach linux --terminal");
    bench.console.attach(Port::terminal(1), "linux", &mut bench.terminal);
    bench.answer(Ok(()));
    let shown = bench.shown();
    assert!(shown.contains("attached to the terminal of \"linux\"; Ctrl-] detaches"), "{shown}");
    assert!(shown.ends_with("early\n"), "{shown}");
    let typed = [Input::Terminal { guest: 1, byte: b'x' }];
    assert_eq!(bench.type_in(b"x"), typed);
    assert_eq!(bench.console.input(Character::BREAK, &mut bench.terminal), Input::Nothing);
    // What comes by the UART is kept for who attaches to that.
    bench.output(1, b"uart");
    assert!(bench.console.print(1, b"later"));
    assert_eq!(bench.shown(), "", "a text may be long: the task shows it");
    assert!(bench.console.has_unseen());
    while bench.console.show(&mut bench.terminal) {}
    assert_eq!(bench.shown(), "later");
    assert_eq!(bench.type_in(b"\x1db"), [], "a terminal has no break");
    let reader = bench.console.add_reader(1);
    assert_eq!(bench.console.read_output(reader, false, 99), b"uart");
    bench.console.forget(1);
    let reader = bench.console.add_reader(Port::terminal(1));
    assert_eq!(bench.console.read_output(reader, false, 99), b"");
}

#[test]
fn a_reader_gets_what_a_guest_has_sent_before_it_was_removed_and_nothing_of_the_next_one() {
    let mut bench = Bench::new();
    bench.output(1, b"first");
    let (slow, other) = (bench.console.add_reader(1), bench.console.add_reader(2));
    assert_eq!(bench.console.read_output(slow, false, 2), b"fi");
    bench.output(1, b", last");
    bench.console.forget(1);
    bench.output(1, b"the next guest");
    assert_eq!(bench.console.read_output(slow, true, 4), b"rst,");
    assert_eq!(bench.console.read_output(slow, true, 99), b" last");
    assert_eq!(bench.console.read_output(slow, true, 99), b"");
    assert_eq!(bench.console.read_output(other, true, 99), b"");
    bench.console.remove_reader(slow);
    assert_eq!(bench.console.read_output(slow, false, 99), b"", "it reads no more");
}

/// A guest that is resumed in its place has sent nothing of what came before.
#[test]
fn a_reader_reads_on_where_another_guest_takes_the_place_of_its_own() {
    let mut bench = Bench::new();
    let reader = bench.console.add_reader(1);
    bench.output(1, b"before, ");
    bench.console.forget(1);
    bench.output(1, b"behind, ");
    bench.console.forget(1);
    bench.output(1, b"again");
    assert_eq!(bench.console.read_output(reader, false, 99), b"before, behind, again");
}

#[test]
fn of_what_a_reader_does_not_read_the_newest_is_kept_and_no_more_than_a_ring_has() {
    let mut bench = Bench::new();
    let reader = bench.console.add_reader(1);
    for byte in b"abc" {
        bench.output(1, &[*byte; CAPACITY / 2 + 1]);
        bench.console.forget(1);
    }
    let read = bench.console.read_output(reader, false, usize::MAX);
    assert_eq!((read.len(), read[0], read[CAPACITY - 1]), (CAPACITY, b'b', b'c'));
    assert_eq!(read.iter().filter(|byte| **byte == b'c').count(), CAPACITY / 2 + 1);
}
