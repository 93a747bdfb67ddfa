//! What is typed: read from the UART also while a command is under way, so that it can be given up.
//!
//! Long work asks [`given_up`] where it can end without a loss, and then returns an error of its own. On the console's core.

use crate::output;
use spin::mutex::SpinMutex;
use stasis_console::type_ahead::TypeAhead;
use stasis_devices::pl011::Character;

static TYPED: SpinMutex<TypeAhead> = SpinMutex::new(TypeAhead::new());

/// Takes the next byte that was typed, or a break.
pub fn next() -> Option<Character> {
    TYPED.lock().pop().or_else(output::read)
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

/// Tells whether the command that is under way is to be given up: whoever asks gives up then. Never, if none is under way.
pub fn given_up() -> bool {
    look(TypeAhead::is_given_up)
}

/// Does what is no part of the command that is under way, and so is not given up with it.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    TYPED.lock().leave();
    let result = work();
    TYPED.lock().come_back();
    result
}

/// Does what nobody has asked for, and gives it up when a line is typed. Returns also whether it was told to.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> (T, bool) {
    TYPED.lock().begin_giving_way();
    let result = work();
    (result, TYPED.lock().end_giving_way())
}

/// Tells whether a key was pressed, and takes it.
pub fn key() -> bool {
    look(TypeAhead::key)
}

/// Tells whether the command `cancel`, which is under way, has given up another one.
pub fn has_cancelled() -> bool {
    TYPED.lock().was_granted()
}

/// Reads what was typed until now, and then looks at it.
fn look<T>(at: impl FnOnce(&mut TypeAhead) -> T) -> T {
    let mut typed = TYPED.lock();
    while let Some(character) = output::read() {
        typed.push(character);
    }
    at(&mut typed)
}
