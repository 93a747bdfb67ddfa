//! A conversation over a serial line: everything that comes is kept, and can be waited for.
//!
//! [`Console::command`] speaks the protocol of Stasis's console: any number of lines, then `ok` or `error: <why>`.
//! A thread reads; nothing here is asynchronous.

use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What Stasis prints when it waits for a command.
pub const PROMPT: &str = "stasis> ";
/// The key that detaches from a guest: Ctrl-].
pub const DETACH: u8 = 0x1d;
/// How long [`Console::command`] waits for the last line of an answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How many lines of the transcript an error shows.
const TAIL_LINES: usize = 30;

/// What can go wrong in a conversation.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// What was waited for has not come.
    #[error("waited {} s in vain for {expected}; the last lines were:\n{tail}", waited.as_secs_f32())]
    Timeout {
        /// What it was.
        expected: String,
        /// How long.
        waited: Duration,
        /// The end of the transcript.
        tail: String,
    },
    /// The machine ended meanwhile.
    #[error("the machine ended while we waited for {expected}; the last lines were:\n{tail}")]
    Ended {
        /// What was waited for.
        expected: String,
        /// The end of the transcript.
        tail: String,
    },
    /// A command was answered with `error: `.
    #[error("\"{command}\" was answered with: error: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// What followed `error: `.
        reason: String,
    },
    /// The machine takes no input any more.
    #[error("cannot send to the machine: {0}")]
    Send(#[from] io::Error),
}

/// All that has come, shared with the threads that read.
#[derive(Clone, Default)]
pub(crate) struct Transcript {
    shared: Arc<(Mutex<Received>, Condvar)>,
}

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// What the machine's program says itself, apart from the line: it comes at any time, in the midst of words too.
    complaints: Vec<u8>,
    ended: bool,
}

impl Received {
    /// The line, and what was complained of behind it.
    fn all(&self) -> Vec<u8> {
        let mut all = self.bytes.clone();
        if !self.complaints.is_empty() && !matches!(all.last(), None | Some(b'\n')) {
            all.push(b'\n');
        }
        all.extend_from_slice(&self.complaints);
        all
    }
}

impl Transcript {
    fn lock(&self) -> MutexGuard<'_, Received> {
        // A thread that panicked while it appended bytes has left nothing half done.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append(&self, bytes: &[u8]) {
        self.lock().bytes.extend_from_slice(bytes);
        self.shared.1.notify_all();
    }

    /// Keeps what nobody waits for, and errors show.
    pub(crate) fn complain(&self, bytes: &[u8]) {
        self.lock().complaints.extend_from_slice(bytes);
    }

    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.shared.1.notify_all();
    }

    /// Waits until `look` finds something in the bytes, for at most `timeout`.
    fn wait<T>(
        &self,
        expected: &str,
        timeout: Duration,
        mut look: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, ConsoleError> {
        let timeout = scaled(timeout);
        let deadline = Instant::now() + timeout;
        let mut received = self.lock();
        loop {
            if let Some(found) = look(&received.bytes) {
                return Ok(found);
            }
            let expected = || expected.to_owned();
            if received.ended {
                return Err(ConsoleError::Ended {
                    expected: expected(),
                    tail: tail(&received.all()),
                });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConsoleError::Timeout {
                    expected: expected(),
                    waited: timeout,
                    tail: tail(&received.all()),
                });
            }
            received = self
                .shared
                .1
                .wait_timeout(received, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Time limits are for a fast machine; `STASIS_TIME_FACTOR` stretches them on a slow one.
fn scaled(timeout: Duration) -> Duration {
    let factor = std::env::var("STASIS_TIME_FACTOR").ok().and_then(|factor| factor.parse().ok());
    timeout.mul_f32(factor.unwrap_or(1.0))
}

/// One end of a serial line.
pub struct Console {
    transcript: Transcript,
    input: Box<dyn Write + Send>,
    /// What lies before it has been looked at.
    cursor: usize,
}

impl Console {
    /// A conversation over `output` and `input`. With `mirror`, every line that comes is shown to the person as well.
    pub fn new(
        output: impl Read + Send + 'static,
        input: impl Write + Send + 'static,
        mirror: bool,
    ) -> Self {
        let transcript = Transcript::default();
        let copy = transcript.clone();
        std::thread::spawn(move || {
            receive(output, &copy, mirror);
            copy.end();
        });
        Self { transcript, input: Box::new(input), cursor: 0 }
    }

    pub(crate) fn shared_transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    /// Waits for `text` and returns everything up to its end.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<String, ConsoleError> {
        let cursor = self.cursor;
        let end = self.transcript.wait(&format!("{text:?}"), timeout, |bytes| {
            find(&bytes[cursor..], text.as_bytes()).map(|at| cursor + at + text.len())
        })?;
        Ok(self.take_to(end))
    }

    /// Waits for the end of a line and returns the line, without control sequences and prompts.
    pub fn next_line(&mut self, timeout: Duration) -> Result<String, ConsoleError> {
        self.line("a line", timeout)
    }

    fn line(&mut self, expected: &str, timeout: Duration) -> Result<String, ConsoleError> {
        let cursor = self.cursor;
        let end = self.transcript.wait(expected, timeout, |bytes| {
            find(&bytes[cursor..], b"\n").map(|at| cursor + at + 1)
        })?;
        Ok(clean(&self.take_to(end)))
    }

    /// Looks at line after line until `wanted` finds in one what it looks for.
    pub fn find_line<T>(
        &mut self,
        expected: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ConsoleError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(found) = wanted(&self.line(expected, left)?) {
                return Ok(found);
            }
        }
    }

    /// Types `bytes`.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ConsoleError> {
        self.input.write_all(bytes)?;
        Ok(self.input.flush()?)
    }

    /// Types a line and the return key.
    pub fn send_line(&mut self, line: &str) -> Result<(), ConsoleError> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// Gives Stasis a command and returns the lines of its answer, without the `ok`.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>, ConsoleError> {
        self.command_within(command, ANSWER_TIME, |_| ())
    }

    /// The same, with another time limit, and every line shown to `watch` as it comes.
    pub fn command_within(
        &mut self,
        command: &str,
        timeout: Duration,
        mut watch: impl FnMut(&str),
    ) -> Result<Vec<String>, ConsoleError> {
        self.send_line(command)?;
        let expected = format!("the answer to \"{command}\"");
        let mut lines = Vec::new();
        let answer = self.find_line(&expected, timeout, |line| {
            if line == "ok" {
                return Some(Ok(()));
            }
            if let Some(reason) = line.strip_prefix("error: ") {
                return Some(Err(reason.to_owned()));
            }
            // Its echo is no part of the answer.
            if line != command && !line.is_empty() {
                watch(line);
                lines.push(line.to_owned());
            }
            None
        })?;
        match answer {
            Ok(()) => Ok(lines),
            Err(reason) => Err(ConsoleError::Refused { command: command.to_owned(), reason }),
        }
    }

    /// Leaves the guest that Stasis's console is attached to.
    pub fn detach(&mut self) -> Result<String, ConsoleError> {
        self.send(&[DETACH])?;
        self.wait_for(PROMPT, ANSWER_TIME)
    }

    /// Looks at nothing that has come until now.
    pub fn skip(&mut self) {
        self.cursor = self.transcript.lock().bytes.len();
    }

    /// Everything that has come so far, and what was complained of behind it.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.transcript.lock().all()).into_owned()
    }

    /// Waits until the other side has ended.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<(), ConsoleError> {
        match self.transcript.wait("the end", timeout, |_| None::<()>) {
            Err(ConsoleError::Ended { .. }) => Ok(()),
            other => other,
        }
    }

    fn take_to(&mut self, end: usize) -> String {
        let received = self.transcript.lock();
        let text = String::from_utf8_lossy(&received.bytes[self.cursor..end]).into_owned();
        drop(received);
        self.cursor = end;
        text
    }
}

fn receive(mut output: impl Read, transcript: &Transcript, mirror: bool) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    // A line that was cut off by the machine's end is an end like any other.
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        let bytes = &buffer[..count];
        transcript.append(bytes);
        if mirror {
            line.extend_from_slice(bytes);
            while let Some(end) = find(&line, b"\n") {
                let rest = line.split_off(end + 1);
                eprintln!("    | {}", clean(&String::from_utf8_lossy(&line)));
                line = rest;
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A line as a person sees it on a terminal: without control sequences, what was overwritten, and our prompt.
fn clean(line: &str) -> String {
    let line = line.trim_end_matches(['\r', '\n']);
    let mut visible = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => {
                // CSI sequences end with a letter; the others have one character.
                if characters.next() == Some('[') {
                    characters.find(char::is_ascii_alphabetic);
                }
            }
            '\r' => visible.clear(),
            c if c.is_control() && c != '\t' => {}
            c => visible.push(c),
        }
    }
    visible.trim_start_matches(PROMPT).trim_end().to_owned()
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    | {}\n", clean(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (Console, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Console::new(ours.try_clone().unwrap(), ours, false), theirs)
    }

    #[test]
    fn an_answer_is_what_stands_between_the_echo_and_ok() {
        let (mut console, mut machine) = pair();
        machine
            .write_all(b"hello\r\nstasis> guests\r\n0 linux\r\n1 other\r\nok\r\nstasis> ")
            .unwrap();
        console.wait_for("hello\r\n", SOON).unwrap();
        assert_eq!(console.command("guests").unwrap(), ["0 linux", "1 other"]);
    }

    #[test]
    fn an_error_line_is_an_error() {
        let (mut console, mut machine) = pair();
        machine.write_all(b"stasis> resume 9\r\nerror: no checkpoint 9\r\nstasis> ").unwrap();
        let error = console.command("resume 9").unwrap_err();
        assert!(
            matches!(error, ConsoleError::Refused { reason, .. } if reason == "no checkpoint 9")
        );
    }

    #[test]
    fn a_timeout_shows_what_came_last() {
        let (mut console, mut machine) = pair();
        machine.write_all(b"the last words\r\n").unwrap();
        let error = console.wait_for("never", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&error, ConsoleError::Timeout { .. }));
        assert!(error.to_string().contains("the last words"));
    }

    #[test]
    fn a_complaint_in_the_midst_of_a_line_leaves_the_line_whole() {
        let (mut console, mut machine) = pair();
        machine.write_all(b"bench hyper").unwrap();
        console.wait_for("hyper", SOON).unwrap();
        console.shared_transcript().complain(b"qemu: icount sleep disabled\n");
        machine.write_all(b"call min 3\r\n").unwrap();
        assert_eq!(console.next_line(SOON).unwrap(), "call min 3");
        drop(machine);
        let error = console.next_line(SOON).unwrap_err().to_string();
        assert!(error.contains("icount sleep disabled"), "{error}");
        let transcript = console.transcript();
        assert!(transcript.starts_with("bench hypercall min 3\r\nqemu: "), "{transcript}");
    }

    #[test]
    fn the_machines_end_ends_the_wait() {
        let (mut console, machine) = pair();
        drop(machine);
        assert!(matches!(console.next_line(SOON), Err(ConsoleError::Ended { .. })));
        console.wait_for_end(SOON).unwrap();
    }

    #[test]
    fn lines_are_cleaned_as_a_terminal_would_show_them() {
        assert_eq!(clean("stasis> \x1b[1mbold\x1b[0m \r\n"), "bold");
        assert_eq!(clean(" 10%\r 20%\r\n"), " 20%");
    }
}
