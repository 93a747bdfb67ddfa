//! What is typed at the console. It is read from the UART even while a command is under way, so
//! that the command can be given up.
//!
//! Long work calls [`check_given_up`] where it can end without a loss, and returns its error. All
//! of this runs on the console's core.

use crate::channel::{current, line};
use spin::mutex::SpinMutex;
use stasis_console::type_ahead::TypeAhead;
use stasis_devices::pl011::Character;

/// The error of work that a person or a program has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("given up; nothing has changed")]
pub struct GivenUp;

static TYPED: SpinMutex<TypeAhead> = SpinMutex::new(TypeAhead::new());

/// Returns the oldest byte that was typed, or a break, and takes it.
pub fn next() -> Option<Character> {
    TYPED.lock().pop().or_else(line::typed)
}

/// Begins a command, which can be given up from now on.
pub fn begin() {
    TYPED.lock().begin();
}

/// Ends a command. Returns how many bytes were typed meanwhile that found no room.
pub fn end() -> usize {
    let mut typed = TYPED.lock();
    typed.end();
    typed.take_lost()
}

/// Returns an error if the command under way must be given up. Returns none if no command is under
/// way.
pub fn check_given_up() -> Result<(), GivenUp> {
    match look(TypeAhead::is_given_up) || current::is_given_up() {
        true => Err(GivenUp),
        false => Ok(()),
    }
}

/// Calls `work`, which is no part of the command under way and so is not given up with it. Returns
/// its result.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    TYPED.lock().leave();
    let result = work();
    TYPED.lock().come_back();
    result
}

/// Calls `work`, which nobody has asked for and which is given up when a line is typed. Returns its
/// result, and whether it was given up.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> (T, bool) {
    TYPED.lock().begin_giving_way();
    let result = work();
    (result, TYPED.lock().end_giving_way())
}

/// Returns whether a key was pressed, and takes it, or whether a client has given the command up.
pub fn key() -> bool {
    match current::is_carried_out() {
        true => current::is_given_up(),
        false => look(TypeAhead::key),
    }
}

/// Notes whether others than the console wait for their command.
pub fn others_wait(wait: bool) {
    TYPED.lock().others_wait(wait);
}

/// Returns whether the command `cancel`, which is under way, has given up another command.
pub fn has_cancelled() -> bool {
    TYPED.lock().was_granted()
}

/// Reads what was typed until now, and then calls `at` with all that waits.
fn look<T>(at: impl FnOnce(&mut TypeAhead) -> T) -> T {
    let mut typed = TYPED.lock();
    while let Some(character) = line::typed() {
        typed.push(character);
    }
    at(&mut typed)
}
