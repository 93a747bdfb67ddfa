//! [`TypeAhead`] keeps what is typed while a command is under way until its turn comes. Only the
//! wish to give the command up has effect at once.
//!
//! A person types Ctrl-C for that; as on other terminals, it also drops what was typed before it. A
//! program sends a line with the word [`CANCEL`]. That line stays in its place and is answered as a
//! command in its turn, so that each line has one answer.

use alloc::collections::VecDeque;

use crate::line::MAX_LINE;
use stasis_devices::pl011::Character;

/// The word of the command that gives up the command under way.
pub const CANCEL: &str = "cancel";
/// Number of bytes that can wait: some lines.
const CAPACITY: usize = 4 * MAX_LINE;
const CTRL_C: u8 = 0x03;

/// Bytes that wait, and whether the command that is under way must be given up.
#[derive(Debug, Default)]
pub struct TypeAhead {
    typed: VecDeque<Character>,
    /// Number of bytes that found no room.
    lost: usize,
    /// Index among the waiting bytes at which the last line begins.
    line: usize,
    under_way: bool,
    given_up: bool,
    /// Whether the work at the moment is no part of the command.
    away: bool,
    /// Whether the command has asked, and knows that it must be given up.
    noticed: bool,
    /// Whether the work at the moment gives way to any line.
    yields: bool,
    /// Whether others than the console wait for a command, to whom that work gives way, too.
    others_wait: bool,
    /// Whether that work has asked, and has given way.
    has_yielded: bool,
    /// Number of waiting lines that have given up the command under way.
    wishes: usize,
    /// Number of waiting lines that have given up an earlier command.
    granted: usize,
}

impl TypeAhead {
    /// Returns a queue in which nothing waits.
    pub const fn new() -> Self {
        Self {
            typed: VecDeque::new(),
            lost: 0,
            line: 0,
            under_way: false,
            given_up: false,
            away: false,
            noticed: false,
            yields: false,
            others_wait: false,
            has_yielded: false,
            wishes: 0,
            granted: 0,
        }
    }

    /// Begins a command.
    pub fn begin(&mut self) {
        self.under_way = true;
        (self.given_up, self.noticed) = (false, false);
    }

    /// Ends a command. The lines that wanted to give it up are granted that only if the command has
    /// noticed.
    pub fn end(&mut self) {
        (self.under_way, self.given_up) = (false, false);
        let wishes = core::mem::take(&mut self.wishes);
        if self.noticed {
            self.granted += wishes;
        }
    }

    /// Keeps a byte that was typed, or a break; a Ctrl-C instead gives up the command that is under
    /// way.
    pub fn push(&mut self, character: impl Into<Character>) {
        let character = character.into();
        let byte = character.byte();
        if byte == CTRL_C && self.under_way {
            self.typed.clear();
            (self.line, self.wishes, self.granted) = (0, 0, 0);
            self.given_up = true;
            return;
        }
        if self.typed.len() >= CAPACITY {
            self.lost += 1;
            return;
        }
        self.typed.push_back(character);
        if matches!(byte, b'\r' | b'\n') {
            let line = self.typed.range(self.line..self.typed.len() - 1);
            let is_wish = line.map(|typed| typed.byte()).eq(CANCEL.bytes());
            self.line = self.typed.len();
            if is_wish && self.under_way {
                self.given_up = true;
                self.wishes += 1;
            }
        }
    }

    /// Takes the oldest byte that waits.
    pub fn pop(&mut self) -> Option<Character> {
        let character = self.typed.pop_front();
        self.line = self.line.saturating_sub(1);
        character
    }

    /// Begins work that is no part of the command under way, and is not given up with it.
    pub fn leave(&mut self) {
        self.away = true;
    }

    /// Ends the work that [`Self::leave`] began.
    pub fn come_back(&mut self) {
        self.away = false;
    }

    /// Returns whether the work at the moment must be given up. The caller must give it up then:
    /// that it has asked is noted.
    pub fn is_given_up(&mut self) -> bool {
        let given_up = self.given_up && !self.away;
        self.noticed |= given_up;
        let yields = self.yields && (self.line > 0 || self.others_wait);
        self.has_yielded |= yields;
        given_up || yields
    }

    /// Notes whether others than the console wait for a command of theirs.
    pub fn others_wait(&mut self, wait: bool) {
        self.others_wait = wait;
    }

    /// Begins work that nobody has asked for. A line that is typed meanwhile, or waits already,
    /// gives it up.
    pub fn begin_giving_way(&mut self) {
        (self.yields, self.has_yielded) = (true, false);
    }

    /// Ends the work that [`Self::begin_giving_way`] began. Returns whether that work has given
    /// way.
    pub fn end_giving_way(&mut self) -> bool {
        self.yields = false;
        self.has_yielded
    }

    /// Takes a key, for a command that any key ends, and returns whether there was one. Bytes that
    /// may yet become the word [`CANCEL`] do not count.
    pub fn key(&mut self) -> bool {
        if self.is_given_up() {
            return true;
        }
        let waiting = self.typed.iter().map(|typed| typed.byte());
        if CANCEL.bytes().zip(waiting).all(|(a, b)| a == b) && self.typed.len() <= CANCEL.len() {
            return false;
        }
        self.pop().is_some()
    }

    /// Returns the answer to the command [`CANCEL`]: whether it has given up another command.
    pub fn was_granted(&mut self) -> bool {
        let was = self.granted > 0;
        self.granted = self.granted.saturating_sub(1);
        was
    }

    /// Returns how many bytes were lost since the last call.
    pub fn take_lost(&mut self) -> usize {
        core::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    fn typed(bytes: &[u8]) -> TypeAhead {
        let mut typed = TypeAhead::new();
        typed.begin();
        bytes.iter().for_each(|byte| typed.push(*byte));
        typed
    }

    fn rest(typed: &mut TypeAhead) -> String {
        core::iter::from_fn(|| typed.pop().map(|typed| char::from(typed.byte()))).collect()
    }

    #[test]
    fn what_is_typed_during_a_command_waits() {
        let mut typed = typed(b"guests\rsto");
        assert!(!typed.is_given_up());
        assert_eq!(rest(&mut typed), "guests\rsto");
    }

    #[test]
    fn a_break_waits_for_the_guest_that_the_command_attaches() {
        let mut typed = typed(b"");
        typed.push(Character::BREAK);
        assert!(!typed.is_given_up());
        assert_eq!((typed.pop(), typed.pop()), (Some(Character::BREAK), None));
    }

    #[test]
    fn ctrl_c_gives_up_and_drops_what_was_typed_ahead() {
        let mut typed = typed(b"delete 1\r\x03store\r");
        assert!(typed.is_given_up());
        assert_eq!(rest(&mut typed), "store\r");
        typed.begin();
        assert!(!typed.is_given_up(), "the next command is another one");
    }

    #[test]
    fn ctrl_c_between_commands_is_for_the_line_editor() {
        let mut typed = TypeAhead::new();
        typed.push(CTRL_C);
        typed.begin();
        assert!(!typed.is_given_up());
        assert_eq!(rest(&mut typed), "\x03");
    }

    #[test]
    fn the_word_gives_up_and_is_answered_in_its_turn() {
        let mut typed = typed(b"guests\rcancel\r\ncancel it\r");
        assert!(typed.is_given_up());
        typed.end();
        assert_eq!(rest(&mut typed), "guests\rcancel\r\ncancel it\r");
        assert!(typed.was_granted());
        assert!(!typed.was_granted(), "once");
    }

    #[test]
    fn a_wish_that_came_too_late_is_not_granted() {
        let mut typed = typed(b"cancel\r");
        typed.end();
        assert!(!typed.was_granted(), "nobody has asked whether to give up");
    }

    #[test]
    fn only_the_command_is_given_up_and_nothing_beside_or_after_it() {
        let mut typed = typed(b"\x03");
        typed.leave();
        assert!(!typed.is_given_up(), "a guest that is helped meanwhile");
        typed.come_back();
        assert!(typed.is_given_up());
        typed.end();
        assert!(!typed.is_given_up(), "a periodic checkpoint afterwards");
    }

    #[test]
    fn what_nobody_has_asked_for_gives_way_to_a_whole_line() {
        let mut typed = TypeAhead::new();
        typed.begin_giving_way();
        b"guests".iter().for_each(|byte| typed.push(*byte));
        assert!(!typed.is_given_up(), "the line has no end yet");
        assert!(!typed.end_giving_way());
        typed.push(b'\r');
        assert!(!typed.is_given_up(), "a command is none of it");
        typed.begin_giving_way();
        assert!(typed.is_given_up());
        assert!(typed.end_giving_way());
        assert_eq!(rest(&mut typed), "guests\r");
        typed.begin_giving_way();
        assert!(!typed.is_given_up());
    }

    #[test]
    fn a_word_that_began_before_its_command_did_counts_when_it_is_complete() {
        let mut typed = TypeAhead::new();
        b"can".iter().for_each(|byte| typed.push(*byte));
        typed.begin();
        b"cel\n".iter().for_each(|byte| typed.push(*byte));
        assert!(typed.is_given_up());
    }

    #[test]
    fn any_key_ends_what_any_key_ends_and_the_word_stays_whole() {
        let mut typed = typed(b"qx");
        assert!(typed.key());
        assert_eq!(rest(&mut typed), "x");
        let mut typed = self::typed(b"canc");
        assert!(!typed.key());
        b"el\r".iter().for_each(|byte| typed.push(*byte));
        assert!(typed.key());
        typed.end();
        assert_eq!(rest(&mut typed), "cancel\r");
        assert!(typed.was_granted());
        assert!(!self::typed(b"").key());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut typed = typed(&[b'x'; CAPACITY + 3]);
        assert_eq!((typed.take_lost(), typed.take_lost()), (3, 0));
        assert_eq!(rest(&mut typed).len(), CAPACITY);
    }
}
