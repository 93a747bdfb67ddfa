use super::*;
use std::format;

/// Keeps what the guest `a`, `b` or `c` with the number 0, 1 or 2 sends. Returns whether it was
/// said that lines wait.
fn print(lines: &mut Lines, number: usize, bytes: &[u8]) -> bool {
    let name = ["a", "b", "c"][number];
    bytes.iter().fold(false, |said, byte| said | lines.output(number, name, *byte))
}

/// Returns all lines that `next` hands out, sent in pieces of `most` bytes.
fn sent(most: usize, mut next: impl FnMut(&mut Line) -> bool) -> String {
    let (mut line, mut terminal) = (Line::new(), Vec::new());
    while next(&mut line) {
        while line.send(most, &mut terminal) {}
        assert!(line.is_sent());
    }
    String::from_utf8(terminal).unwrap()
}

/// Returns all whole lines.
fn shown(lines: &mut Lines) -> String {
    sent(7, |line| lines.next(line))
}

/// Returns what is shown of these bytes of guest `a`.
fn shown_of(bytes: &[u8]) -> String {
    let mut lines = Lines::new();
    print(&mut lines, 0, bytes);
    shown(&mut lines)
}

#[test]
fn lines_of_several_guests_are_not_mixed_and_come_in_turns() {
    let mut lines = Lines::new();
    for (number, bytes) in
        [(0, &b"on"[..]), (2, b"two\r\n2\n3\n"), (0, b"e\nagain\n"), (1, b"b\n"), (2, b"begun")]
    {
        print(&mut lines, number, bytes);
    }
    assert_eq!(shown(&mut lines), "b| b\r\nc| two\r\na| one\r\nc| 2\r\na| again\r\nc| 3\r\n");
    print(&mut lines, 2, b"\n");
    assert_eq!(shown(&mut lines), "c| begun\r\n");
}

#[test]
fn it_is_said_once_that_lines_wait_until_all_are_handed_out() {
    let (mut lines, mut line) = (Lines::new(), Line::new());
    assert!(!print(&mut lines, 0, b"begun"));
    assert!(print(&mut lines, 0, b"\n"));
    assert!(!print(&mut lines, 1, b"one\ntwo\n"));
    assert!(lines.next(&mut line) && lines.next(&mut line));
    assert!(!print(&mut lines, 0, b"more\n"));
    assert!(lines.next(&mut line) && lines.next(&mut line) && !lines.next(&mut line));
    assert!(print(&mut lines, 1, b"\n"));
    assert!(lines.next(&mut line) && !lines.next(&mut line));
    assert!(print(&mut lines, 1, &[b'x'; WINDOW]), "a long line is not waited for");
}

#[test]
fn a_line_is_sent_in_pieces_of_the_size_that_is_asked_for() {
    let (mut lines, mut line, mut terminal) = (Lines::new(), Line::new(), Vec::new());
    print(&mut lines, 0, b"12345\n");
    assert!(lines.next(&mut line));
    assert!(line.send(6, &mut terminal));
    assert_eq!(terminal, b"a| 123");
    assert!(!line.send(usize::MAX, &mut terminal));
    assert_eq!(terminal, b"a| 12345\r\n");
}

#[test]
fn what_a_terminal_obeys_is_escaped() {
    assert_eq!(shown_of(b"\x1b[2J\xff\n"), "a| \\u{1b}[2J\u{fffd}\r\n");
}

#[test]
fn a_long_line_goes_on_in_the_next() {
    let whole = "x".repeat(LONGEST);
    assert_eq!(shown_of(format!("{whole}x\n").as_bytes()), format!("a| {whole}\r\na| x\r\n"));
    assert_eq!(shown_of(format!("{whole}\n").as_bytes()), format!("a| {whole}\r\n"));
}

#[test]
fn a_line_is_as_long_as_it_is_shown_and_no_character_is_cut() {
    let escape = "\\u{1b}".repeat(LONGEST / 6);
    assert_eq!(shown_of(&[0x1b; WINDOW]), format!("a| {escape}\r\n"));
    for (character, before) in [("\u{1f600}", 1), ("\u{20ac}", 0), ("\u{e4}", 1)] {
        let text = "x".repeat(before) + &character.repeat(WINDOW);
        let shown = shown_of(format!("{text}\n").as_bytes());
        assert!(!shown.contains('\u{fffd}'), "{shown}");
        assert!(shown.lines().all(|line| line.len() <= "a| ".len() + LONGEST), "{shown}");
        assert_eq!(shown.replace("\r\n", "").replace("a| ", ""), text);
    }
}

#[test]
fn what_does_not_fit_is_lost_with_the_rest_of_its_line_and_said() {
    let mut lines = Lines::new();
    let count = KEPT / 4;
    print(&mut lines, 0, &b"abc\n".repeat(count));
    // The first of them is cut.
    print(&mut lines, 0, b"x\n");
    let kept = "a| abc\r\n".repeat(count - 1);
    assert_eq!(shown(&mut lines), format!("a| [4 bytes are lost]\r\n{kept}a| x\r\n"));
    // The first is lost as a whole, so that the second is not cut.
    print(&mut lines, 0, &b"abc\n".repeat(count));
    print(&mut lines, 0, b"xyz\n");
    assert_eq!(shown(&mut lines), format!("a| [4 bytes are lost]\r\n{kept}a| xyz\r\n"));
    // Without a line feed there is nothing to go on from.
    print(&mut lines, 0, &[b'x'; KEPT + 5]);
    let shown = sent(7, |line| lines.next_of(0, line));
    assert!(shown.starts_with("a| [5 bytes are lost]\r\na| xxx"));
    assert_eq!(shown.matches('x').count(), KEPT);
}

#[test]
fn the_last_words_of_a_guest_are_shown_without_a_line_feed() {
    let mut lines = Lines::new();
    print(&mut lines, 0, b"one\nhelp");
    print(&mut lines, 1, b"other\nbegun");
    assert_eq!(sent(7, |line| lines.next_of(0, line)), "a| one\r\na| help\r\n");
    print(&mut lines, 0, b"again\n");
    assert_eq!(shown(&mut lines), "b| other\r\na| again\r\n");
    assert!(!lines.next_of(7, &mut Line::new()));
}

#[test]
fn all_is_shown_at_the_end_of_the_machine() {
    let (mut lines, mut terminal) = (Lines::new(), Vec::new());
    print(&mut lines, 0, b"one\nhelp");
    print(&mut lines, 2, b"begun");
    lines.show_all(&mut terminal);
    assert_eq!(terminal, b"a| one\r\na| help\r\nc| begun\r\n");
    assert_eq!(shown(&mut lines), "");
}

#[test]
fn a_guest_that_was_removed_has_begun_nothing() {
    let mut lines = Lines::new();
    lines.output(1, "old", b'x');
    lines.forget(1);
    lines.forget(7);
    lines.output(1, "new", b'\n');
    assert_eq!(shown(&mut lines), "new| \r\n");
}
