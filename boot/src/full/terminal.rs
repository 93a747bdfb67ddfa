//! All that is said: answers, the log, and what guests send go through one [`Console`], which knows
//! what the UART's terminal shows.
//!
//! The public functions take the lock of [`CONSOLE`], so their callers must not hold it.
//! [`crate::console`] reads what is typed.

use crate::channel::{events, line};
use crate::output;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};
use stasis_console::{CAPACITY, Console, Input, Names, PIECE, Port, ReaderId, Terminal, WAITING};
use stasis_devices::pl011::Character;
use stasis_host::task::TaskLock;
use stasis_run::domain::Domain;
use stasis_run::roster;
use stasis_run::turns::Task;

/// The console. Both the task and the cores that run vCPUs say everything through it.
static CONSOLE: TaskLock<Console> = TaskLock::new(Console::new());

/// Number of listeners that want what guests send. The task writes it; relaxed, for what is missed
/// in the moment is seen in the task's next turn.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);

/// Adds one who reads what a guest sends by a port ([`read_output`]): from now on the task is woken
/// by what any guest sends.
pub fn add_reader(port: Port) -> ReaderId {
    LISTENERS.fetch_add(1, Ordering::Relaxed);
    CONSOLE.lock_without_task().add_reader(port)
}

/// Removes one whom [`add_reader`] has added.
pub fn remove_reader(reader: ReaderId) {
    LISTENERS.fetch_sub(1, Ordering::Relaxed);
    CONSOLE.lock_without_task().remove_reader(reader);
}

/// Wakes the task, if anybody wants what a guest has just sent.
fn note_output() {
    if LISTENERS.load(Ordering::Relaxed) > 0 {
        roster::wake_console();
    }
}

/// The console's UART as a terminal.
struct Uart;

impl Terminal for Uart {
    fn send(&mut self, bytes: &[u8]) {
        line::say(bytes);
    }
}

/// The console's UART as a terminal for a panic, in which the UART's lock may be lost.
struct PanicUart;

impl Terminal for PanicUart {
    fn send(&mut self, bytes: &[u8]) {
        output::write_bytes_in_panic(bytes);
    }
}

/// Shows the first prompt.
pub fn prompt() {
    CONSOLE.lock_without_task().prompt(&mut Uart);
}

/// Shows the prompt again, and what was typed there, if the terminal shows it: something else has
/// had the line.
pub fn redraw(task: &Task) {
    CONSOLE.lock(task).redraw(&mut Uart);
}

/// Takes a byte or a break that was typed, and returns what it is for.
pub fn input(task: &mut Task, character: Character) -> Input {
    CONSOLE.lock(task).input(character, &mut Uart)
}

/// Completes the word that is typed, as the Tab key asks.
pub fn complete(task: &mut Task, names: &Names) {
    CONSOLE.lock(task).complete(names, &mut Uart);
}

/// Ends the answer to a command with its last line, and shows what has waited for that.
pub fn answer(task: &mut Task, result: Result<(), String>) {
    CONSOLE.lock(task).answer(result, &mut Uart);
    show_rest(task);
}

/// Attaches the terminal to a guest's UART, or to the terminal of the guest.
pub fn attach(task: &mut Task, domain: &Domain, port: Port) {
    CONSOLE.lock(task).attach(port, &domain.name, &mut Uart);
}

/// Writes the last `lines` lines that a guest has sent.
pub fn write_log(
    task: &Task,
    domain: &Domain,
    lines: usize,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    CONSOLE.lock(task).write_log(domain.number, lines, out)
}

/// Writes the last `lines` lines of Stasis's own log.
pub fn write_own_log(task: &Task, lines: usize, out: &mut impl fmt::Write) -> fmt::Result {
    CONSOLE.lock(task).write_own_log(lines, out)
}

/// Shows what has waited for the end of an answer: lines, and output of the guest that was just
/// attached. That takes up to 2.8 s at 115,200 bits/s, in which others need this core and the
/// console, so the task yields between the pieces.
fn show_rest(task: &mut Task) {
    /// The number of pieces after which the rest is left, for lines may come without end: twice as
    /// many as there can be at first.
    const MOST: usize = 2 * (CAPACITY + WAITING) / PIECE;
    for _ in 0..MOST {
        if !CONSOLE.lock(task).show(&mut Uart) {
            return;
        }
        task.yield_now();
    }
}

/// Says a line of the log.
pub fn log(line: fmt::Arguments) {
    CONSOLE.lock_without_task().log(line, &mut Uart);
}

/// Says the lines that wait for the end of an answer, because the machine is about to end.
pub fn show_waiting() {
    CONSOLE.lock_without_task().show_waiting(&mut Uart);
}

/// Says in a panic the lines that wait for the end of an answer, unless the console's lock is lost:
/// its holder may be what has panicked.
pub fn show_waiting_in_panic() {
    const PATIENCE: usize = 10_000_000;
    if let Some(mut console) = (0..PATIENCE).find_map(|_| CONSOLE.try_lock()) {
        console.show_waiting(&mut PanicUart);
    }
}

/// Takes a byte that a guest has sent.
pub fn guest_output(domain: &Domain, byte: u8) {
    CONSOLE.lock_without_task().output(domain.number, byte, &mut Uart);
    note_output();
}

/// Takes a text that a guest has printed at its terminal. The console's task shows it, for it may
/// be longer than others can wait.
pub fn guest_text(domain: &Domain, text: &[u8]) {
    let is_shown = CONSOLE.lock_without_task().print(domain.number, text);
    note_output();
    if is_shown {
        roster::wake_console();
    }
}

/// Shows some of what the attached guest has printed at its terminal since the task's last turn: no
/// more than 22 ms take at 115,200 bits/s, for then the keys must be looked at. Returns whether
/// anything was shown; then others had the core, and there may be more to show, and keys that woke
/// nobody.
pub fn show_printed(task: &mut Task) -> bool {
    /// Pieces in one turn of the task.
    const MOST: usize = 256 / PIECE;
    if !CONSOLE.lock(task).has_unseen() {
        return false;
    }
    for _ in 0..MOST {
        if !CONSOLE.lock(task).show(&mut Uart) {
            break;
        }
        task.yield_now();
    }
    true
}

/// Returns the next bytes for a reader, at most `most`; of a guest that `is_gone`, those that were
/// left for the reader.
pub fn read_output(task: &Task, reader: ReaderId, is_gone: bool, most: usize) -> Vec<u8> {
    CONSOLE.lock(task).read_output(reader, is_gone, most)
}

/// Does nothing: the console has what a guest has sent, shown or kept, with the line that it has
/// only begun.
pub fn show_last_words(_: &mut Task, _: &Domain) {}

/// Forgets what the guest in this domain has sent.
pub fn forget(domain: &Domain) {
    CONSOLE.lock_without_task().forget(domain.number);
}

/// Says what has become of a guest that runs.
pub fn notice(domain: &Domain, what: &str) {
    events::notice(&domain.name, what);
    CONSOLE.lock_without_task().notice(format_args!("guest \"{}\" {what}", domain.name), &mut Uart);
}

/// Says that a guest has stopped by itself, and why. If the terminal is attached to it, what the
/// guest has sent is shown before.
pub fn halted(task: &mut Task, domain: &Domain, why: &str) {
    events::notice(&domain.name, why);
    if CONSOLE.lock(task).attached() == Some(domain.number) {
        show_rest(task);
    }
    CONSOLE.lock(task).halted(domain.number, &domain.name, why, &mut Uart);
}
