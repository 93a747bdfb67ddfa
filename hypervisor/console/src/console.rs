//! The console on the machine's UART: commands for a person, or a guest's terminal.
//!
//! [`Console`] takes the bytes that are typed and returns what they are: a command line, or input
//! for the attached guest. It also takes what the guests send, shows the output of the attached
//! guest, and keeps the last bytes of each. A command is answered by any number of lines and then
//! one last line, `ok` or `error: <what is wrong>`.
//!
//! Everything that Stasis says, from an answer to the log, goes through the console: there is one
//! terminal, and an answer stays in one piece. Lines that no command asked for wait until the
//! answer is complete.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::backlog::Backlog;
pub use crate::backlog::CAPACITY as WAITING;
use crate::command::complete;
pub use crate::command::{Command, CommandError, Names};
use crate::line::Editor;
use crate::mux::Mux;
pub use crate::mux::{PIECE, Port};
pub use crate::readers::ReaderId;
pub use crate::ring::CAPACITY;
use crate::ring::Ring;
use crate::terminal::{Echo, Terminal, say};
use crate::text::Harmless;
use stasis_devices::pl011::Character;

/// The prompt: what the console prints when it waits for a command.
pub const PROMPT: &str = "stasis> ";
/// The key Ctrl-], which detaches the terminal from a guest.
pub const DETACH: u8 = 0x1d;
/// The key that, right behind [`DETACH`], attaches the guest again and sends it a break.
const SEND_BREAK: u8 = b'b';
/// The Tab key.
const TAB: u8 = b'\t';

/// What the console makes of a byte that was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The caller has nothing to do.
    Nothing,
    /// The Tab key: the caller must call [`Console::complete`].
    Complete,
    /// A command line. The caller must carry it out and then call [`Console::answer`].
    Line(String),
    /// Input for the UART of the attached guest. The caller must pass it on, and call
    /// [`Console::show`] soon if [`Console::has_unseen`].
    Guest {
        /// The number of the guest, as the caller of [`Console::attach`] gave it.
        guest: usize,
        /// The byte that was typed, or a break.
        character: Character,
    },
    /// Input for the terminal of the attached guest. The caller must pass it on.
    Terminal {
        /// The number of the guest.
        guest: usize,
        /// The byte that was typed.
        byte: u8,
    },
}

/// What the terminal shows at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Screen {
    /// The log alone, as long as the console is not open.
    Log,
    /// The output of a command. Lines that the command did not ask for wait.
    Command,
    /// The lines that have waited for the end of a command's answer.
    Waiting,
    /// The prompt, and what was typed behind it.
    Prompt,
    /// The output of the attached guest.
    Guest,
}

/// The console. It knows guests by numbers, which the caller gives out.
#[derive(Debug)]
pub struct Console {
    editor: Editor,
    mux: Mux,
    screen: Screen,
    backlog: Backlog,
    /// The last lines of the log, whether they were shown or not.
    log: Ring,
    /// Pieces of the attached guest's output that were shown since all of it was.
    behind: usize,
    /// The number and the name of a guest, if the last byte has detached from it.
    left: Option<(Port, String)>,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// Returns a console that shows only the log; [`Self::prompt`] opens it.
    pub const fn new() -> Self {
        Self {
            editor: Editor::new(),
            mux: Mux::new(),
            screen: Screen::Log,
            backlog: Backlog::new(),
            log: Ring::new(),
            behind: 0,
            left: None,
        }
    }

    /// Shows the prompt.
    pub fn prompt(&mut self, terminal: &mut impl Terminal) {
        terminal.send(PROMPT.as_bytes());
        self.screen = Screen::Prompt;
    }

    /// Shows the prompt and what was typed there again, on a line of their own, if the terminal
    /// shows them. Nothing of it is carried out.
    pub fn redraw(&mut self, terminal: &mut impl Terminal) {
        if self.screen == Screen::Prompt {
            say(terminal, format_args!("\n{PROMPT}{}", self.editor.typed()));
        }
    }

    /// Takes what was typed, a byte or a break, and returns what the caller must do with it. A
    /// break is only for the attached guest.
    pub fn input(
        &mut self,
        character: impl Into<Character>,
        terminal: &mut impl Terminal,
    ) -> Input {
        let (character, left) = (character.into(), self.left.take());
        let byte = character.byte();
        if let Some((port, name)) = self.mux.attached() {
            if byte != DETACH {
                return input_of(port, character);
            }
            self.left = Some((port, name.to_string()));
            self.leave(terminal, format_args!("detached from"), "");
            return Input::Nothing;
        }
        match left {
            Some((port, name)) if byte == SEND_BREAK && !port.is_terminal => {
                return self.go_back(port, &name, terminal);
            }
            _ if character.is_break() => return Input::Nothing,
            _ => {}
        }
        match self.editor.input(byte, &mut Echo(terminal)) {
            None if byte == TAB => return Input::Complete,
            None => return Input::Nothing,
            Some(Ok(line)) if !line.trim().is_empty() => {
                self.screen = Screen::Command;
                return Input::Line(line);
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => say(terminal, format_args!("error: {error}\n")),
        }
        self.prompt(terminal);
        Input::Nothing
    }

    /// Attaches again the guest that the last byte has detached from, and returns a break for it.
    fn go_back(&mut self, port: Port, name: &str, terminal: &mut impl Terminal) -> Input {
        self.mux.attach(port, name);
        say(terminal, format_args!("\n[break sent to \"{name}\"]\n"));
        self.screen = Screen::Guest;
        Input::Guest { guest: port.guest, character: Character::BREAK }
    }

    /// Completes what was typed as far as it is unambiguous, or shows the words that it could
    /// become.
    pub fn complete(&mut self, names: &Names, terminal: &mut impl Terminal) {
        if self.screen != Screen::Prompt || !self.editor.is_sound() {
            return;
        }
        let completion = complete(self.editor.typed(), names);
        if !completion.choices.is_empty() {
            let choices = completion.choices.join("  ");
            say(terminal, format_args!("\n{choices}\n{PROMPT}{}", self.editor.typed()));
        } else if completion.append.is_empty() {
            terminal.send(b"\x07");
        }
        self.editor.append(&completion.append, &mut Echo(terminal));
    }

    /// Ends a command: writes the last line of its answer. After that, [`Self::show`] shows the
    /// lines that have waited, and then the prompt or the output of the guest that the command has
    /// attached.
    pub fn answer<E: fmt::Display>(&mut self, result: Result<(), E>, terminal: &mut impl Terminal) {
        match result {
            Ok(()) => say(terminal, format_args!("ok\n")),
            Err(error) => say(terminal, format_args!("error: {}\n", Harmless(error))),
        }
        self.screen = Screen::Waiting;
    }

    /// Shows the next piece of what could not be shown when it came: lines during a command, or
    /// output of the attached guest. Returns whether there is more. It shows only a piece, because
    /// a UART is slow, and the caller has others that want to run. Of a guest that sends more than
    /// the terminal takes, the rest is left out at times, and a line says how much that is.
    pub fn show(&mut self, terminal: &mut impl Terminal) -> bool {
        match self.screen {
            Screen::Log | Screen::Command | Screen::Prompt => false,
            Screen::Guest => self.show_guest(terminal),
            Screen::Waiting => {
                if self.backlog.show(PIECE, terminal) {
                    return true;
                }
                if self.mux.attached().is_none() {
                    self.prompt(terminal);
                    return false;
                }
                self.screen = Screen::Guest;
                true
            }
        }
    }

    /// Shows the next piece of the attached guest's output. Returns whether there is more.
    fn show_guest(&mut self, terminal: &mut impl Terminal) -> bool {
        /// Pieces behind which the rest is left out: twice as many as there can be at first.
        const MOST: usize = 2 * CAPACITY / PIECE;
        if self.behind == MOST {
            self.mux.skip(terminal);
        }
        let has_more = self.mux.show(terminal);
        self.behind = if has_more { self.behind + 1 } else { 0 };
        has_more
    }

    /// Shows all lines that wait, even within an answer. For a machine that is about to end, so
    /// that the lines are not lost.
    pub fn show_waiting(&mut self, terminal: &mut impl Terminal) {
        while self.backlog.show(PIECE, terminal) {}
    }

    /// Attaches the console to a port of the guest with this name, as part of a command. After the
    /// [answer](Self::answer), [`Self::show`] shows what came by it so far.
    pub fn attach(&mut self, port: impl Into<Port>, name: &str, terminal: &mut impl Terminal) {
        let port = port.into();
        self.mux.attach(port, name);
        let what = if port.is_terminal { "the terminal of " } else { "" };
        say(terminal, format_args!("attached to {what}\"{name}\"; Ctrl-] detaches\n"));
    }

    /// Returns the number of the guest that the console is attached to.
    pub fn attached(&self) -> Option<usize> {
        self.mux.attached().map(|(port, _)| port.guest)
    }

    /// Returns whether the console shows what comes by a port.
    fn shows(&self, port: Port) -> bool {
        self.screen == Screen::Guest && self.mux.attached().is_some_and(|(at, _)| at == port)
    }

    /// Takes a byte that a guest has sent by its UART: shows it if the console shows that guest,
    /// and keeps it.
    // What is called for each byte is inlined, although this crate is built for size.
    pub fn output(&mut self, guest: usize, byte: u8, terminal: &mut impl Terminal) {
        let port = Port::uart(guest);
        let is_shown = self.screen == Screen::Guest && self.shows_at_once(port);
        if is_shown {
            terminal.send(&[byte]);
        }
        self.mux.ring(port).push_byte(byte, is_shown);
    }

    /// Returns whether the console shows a port, and has shown all that came by it.
    #[inline(never)]
    fn shows_at_once(&self, port: Port) -> bool {
        self.shows(port) && !self.mux.has_unseen(port)
    }

    /// Keeps a text that a guest has printed at its terminal. Returns whether the console is
    /// attached to that: then [`Self::show`] must be called soon.
    pub fn print(&mut self, guest: usize, text: &[u8]) -> bool {
        let port = Port::terminal(guest);
        self.mux.keep(port, text);
        self.shows(port)
    }

    /// Returns whether the console is attached to a guest that has sent something that was not
    /// shown.
    pub fn has_unseen(&self) -> bool {
        let attached = self.mux.attached();
        self.screen == Screen::Guest && attached.is_some_and(|(port, _)| self.mux.has_unseen(port))
    }

    /// Writes to `out` the last lines that a guest has sent. A bar before each tells them from
    /// lines of Stasis.
    pub fn write_log(&self, guest: usize, lines: usize, out: &mut dyn Write) -> fmt::Result {
        let lines = self.mux.last_lines(Port::uart(guest), lines);
        lines.iter().try_for_each(|line| writeln!(out, "| {line}"))
    }

    /// Writes to `out` the last lines of Stasis's own log, whether they were shown or not, each
    /// behind a bar.
    pub fn write_own_log(&self, lines: usize, out: &mut dyn Write) -> fmt::Result {
        let lines = self.log.last_lines(lines);
        lines.iter().try_for_each(|line| writeln!(out, "| {line}"))
    }

    /// Adds one who reads what a guest sends by a port, beside the terminal, and begins with what is
    /// kept of it.
    pub fn add_reader(&mut self, port: impl Into<Port>) -> ReaderId {
        self.mux.add_reader(port.into())
    }

    /// Removes a reader.
    pub fn remove_reader(&mut self, id: ReaderId) {
        self.mux.remove_reader(id);
    }

    /// Returns the next bytes for a reader, at most `most`. Those that are not kept any more are
    /// passed over. Of a guest that `is_gone`, removed or forgotten for that, these are what was
    /// left for the reader. What the terminal shows does not change.
    pub fn read_output(&mut self, id: ReaderId, is_gone: bool, most: usize) -> Vec<u8> {
        self.mux.read(id, is_gone, most)
    }

    /// Says that a guest has stopped for good, and why, in words such as `powered off`. Detaches
    /// the terminal from it. What it has sent and was not shown yet is left out, and a line says
    /// how much that is: a caller that can wait for the terminal calls [`Self::show`] before.
    pub fn halted(
        &mut self,
        guest: usize,
        name: &str,
        why: impl fmt::Display,
        terminal: &mut impl Terminal,
    ) {
        if self.attached() == Some(guest) && self.screen == Screen::Guest {
            self.mux.skip(terminal);
            self.leave(terminal, format_args!("guest"), &alloc::format!(": {why}"));
            return;
        }
        if self.attached() == Some(guest) {
            self.mux.detach();
        }
        self.left = None;
        self.notice(format_args!("guest \"{name}\": {why}"), terminal);
    }

    /// Forgets what a guest has sent, because another guest will get its number. What a reader has
    /// not read is left for it.
    pub fn forget(&mut self, guest: usize) {
        self.mux.forget(guest);
        self.left = None;
    }

    /// Says in brackets what has become of a guest.
    pub fn notice(&mut self, what: fmt::Arguments<'_>, terminal: &mut impl Terminal) {
        self.log(format_args!("[{what}]"), terminal);
    }

    /// Shows a line that no command asked for; it waits while a command is answered. Shows again
    /// behind it what stood on the screen's last line: the prompt with what was typed, or the line
    /// that the attached guest has begun.
    pub fn log(&mut self, line: fmt::Arguments<'_>, terminal: &mut impl Terminal) {
        let line = Harmless(line);
        // Writing to the ring does not fail.
        let _ = writeln!(self.log, "{line}");
        match self.screen {
            Screen::Log => say(terminal, format_args!("{line}\n")),
            Screen::Command | Screen::Waiting => self.backlog.push(format_args!("{line}")),
            Screen::Prompt => {
                say(terminal, format_args!("\n{line}\n{PROMPT}{}", self.editor.typed()));
            }
            Screen::Guest => {
                let begun = self.mux.begun();
                let feed = if begun.is_empty() { "" } else { "\n" };
                say(terminal, format_args!("{feed}{line}\n"));
                terminal.send(&begun);
            }
        }
    }

    fn leave(&mut self, terminal: &mut impl Terminal, how: fmt::Arguments<'_>, why: &str) {
        if let Some(name) = self.mux.detach() {
            say(terminal, format_args!("\n[{how} \"{name}\"{why}]\n"));
        }
        self.behind = 0;
        self.prompt(terminal);
    }
}

/// Returns what was typed for a port. A terminal has no breaks.
fn input_of(port: Port, character: Character) -> Input {
    let Port { guest, is_terminal } = port;
    match is_terminal {
        false => Input::Guest { guest, character },
        true if character.is_break() => Input::Nothing,
        true => Input::Terminal { guest, byte: character.byte() },
    }
}

#[cfg(test)]
mod tests;
