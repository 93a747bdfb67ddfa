//! The driver on a model of the generator, which gives words only when it is enabled, locks itself
//! when its tests fail, and may be broken.

use super::*;
use crate::mmio::fake::{Bus, Device, frame};
use crate::time::fake::Ticks;
use std::cell::RefCell;
use std::rc::Rc;

const BASE: usize = 0x1000;
const LOCKOUT: u64 = 1 << 31;
const NIST: u64 = 1 << 5;
/// Ticks of the clock in a second. Under Miri, for which each look at the clock takes long, there
/// are fewer.
const SECOND: usize = if cfg!(miri) { 1000 } else { 10_000 };

/// The generator.
#[derive(Default)]
struct Model {
    ctrl: u64,
    status: u64,
    resets: [u64; 2],
    /// Looks at the count of words after which one is there.
    slowness: usize,
    looks: usize,
    /// Words that were given since the last reset, and in all.
    given: u32,
    /// Failures that are still to come, each behind so many words, and what it is that fails.
    failures: usize,
    behind: u32,
    failure: u64,
    /// Gives this word for ever, or one of two.
    stuck: Option<[u32; 2]>,
    /// Whether a word was taken that was not there.
    has_underrun: bool,
    done: Vec<&'static str>,
}

impl Model {
    fn is_on(&self) -> bool {
        self.ctrl & 0x1fff != 0 && self.resets == [0, 0] && self.status & LOCKOUT == 0
    }

    fn count(&mut self) -> u64 {
        self.looks += 1;
        u64::from(self.is_on() && self.looks > self.slowness)
    }

    fn word(&mut self) -> u64 {
        self.has_underrun |= !(self.is_on() && self.looks > self.slowness);
        (self.looks, self.given) = (0, self.given + 1);
        if self.failures > 0 && self.given.is_multiple_of(self.behind) {
            self.failures -= 1;
            self.status |= self.failure;
        }
        let word = match self.stuck {
            Some(words) => words[self.given as usize % 2],
            None => self.given.wrapping_mul(0x9e37_79b9),
        };
        word.into()
    }
}

impl Device for Model {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        assert_eq!(bytes, 4);
        match offset {
            0x00 => self.ctrl,
            0x04 => self.resets[0],
            0x08 => self.resets[1],
            0x18 => self.status,
            0x20 => self.word(),
            0x24 => self.count(),
            _ => panic!("there is no register at {offset:#x}"),
        }
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        assert_eq!(bytes, 4);
        match offset {
            0x00 => self.ctrl = value,
            0x04 => self.resets[0] = value,
            0x08 => self.resets[1] = value,
            // A reset alone ends a lockout.
            0x18 => self.status &= !value | LOCKOUT,
            _ => panic!("{offset:#x} is not written"),
        }
        if self.resets == [1, 1] {
            assert_eq!(self.ctrl & 0x1fff, 0, "it is off while it is reset");
            (self.status, self.given) = (self.status & !LOCKOUT, 0);
            self.done.push("reset");
        }
    }
}

fn words(model: Model) -> (Result<[u32; WORDS], Unusable>, Rc<RefCell<Model>>) {
    let model = Bus::attach(BASE, LEN, model);
    let words = Rng200::new(frame(BASE)).words(Ticks::per_second(SECOND as u64));
    assert!(!model.borrow().has_underrun, "a word was taken that was not there");
    (words, model)
}

#[test]
fn words_are_taken_as_they_come_and_none_twice() {
    for (ctrl, slowness) in [(0, 0), (0, SECOND / 50), (0x6001, 3)] {
        let (words, model) = words(Model { ctrl, slowness, ..Model::default() });
        let expected: [u32; WORDS] =
            core::array::from_fn(|n| (n as u32 + 1).wrapping_mul(0x9e37_79b9));
        assert_eq!(words, Ok(expected));
        assert_eq!(model.borrow().ctrl, ctrl, "it is left as it was");
        assert!(model.borrow().done.is_empty());
    }
}

#[test]
fn a_generator_that_gives_nothing_is_not_waited_for() {
    let (words, model) = words(Model { slowness: usize::MAX, ..Model::default() });
    assert_eq!(words, Err(Unusable::Slow { taken: 0 }));
    assert_eq!(model.borrow().ctrl, 0, "it is off again");
}

#[test]
fn all_words_together_have_one_time_limit() {
    // Each word comes within the limit, and ten of them are more than it.
    let (words, model) = words(Model { slowness: SECOND / 10, ..Model::default() });
    assert!(matches!(words, Err(Unusable::Slow { taken: 8..=10 })), "{words:?}");
    assert_eq!(model.borrow().ctrl, 0, "it is off again");
}

#[test]
fn a_failure_behind_the_last_word_counts() {
    for failure in [LOCKOUT, NIST] {
        let fails =
            |failures| words(Model { failures, behind: WORDS as u32, failure, ..Model::default() });
        let (words, model) = fails(1);
        assert_eq!(words.unwrap()[0], 0x9e37_79b9);
        assert_eq!(model.borrow().done, ["reset"]);
        assert_eq!(fails(3).0, Err(Unusable::Failed));
    }
}

#[test]
fn a_generator_whose_tests_fail_is_reset_and_what_it_gave_before_is_dropped() {
    for failure in [LOCKOUT, NIST] {
        let (words, model) = words(Model { failures: 2, behind: 10, failure, ..Model::default() });
        assert_eq!(words.unwrap()[0], 0x9e37_79b9, "the first word behind the last reset");
        assert_eq!(model.borrow().done, ["reset"; 2]);
    }
}

#[test]
fn a_generator_whose_tests_fail_again_and_again_is_refused() {
    for failure in [LOCKOUT, NIST] {
        let (words, _) = words(Model { failures: 3, behind: 10, failure, ..Model::default() });
        assert_eq!(words, Err(Unusable::Failed));
    }
}

#[test]
fn words_that_are_stuck_are_refused() {
    for stuck in [[0, 0], [u32::MAX; 2], [0x5555_5555, 0xaaaa_aaaa]] {
        let (words, _) = words(Model { stuck: Some(stuck), ..Model::default() });
        let error = words.unwrap_err();
        assert!(matches!(error, Unusable::Stuck(word) if stuck.contains(&word)), "{error}");
        assert!(error.to_string().ends_with(" has come 3 times among 32 words"), "{error}");
    }
}
