//! A conversation over a serial line: everything that is received is kept, and can be waited for.
//!
//! [`Console::command`] speaks the protocol of Stasis's console: any number of lines, then `ok` or
//! `error: <why>`. A thread reads the line; nothing here is asynchronous.

mod last_words;
mod text;
mod transcript;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use text::{clean, find};
pub use transcript::ConsoleError;
pub(crate) use transcript::Transcript;

use crate::report;

/// The prompt: what Stasis prints when it waits for a command.
pub const PROMPT: &str = "stasis> ";
/// The key Ctrl-], which detaches from a guest.
pub const DETACH: u8 = 0x1d;
/// The time that [`Console::command`] waits for the last line of an answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The time until the end of a machine that takes no input any more is known.
const END_TIME: Duration = Duration::from_secs(1);

/// One end of a serial line.
pub struct Console {
    transcript: Transcript,
    input: Box<dyn Write + Send>,
    /// Offset in the transcript up to which everything was looked at.
    cursor: usize,
}

impl Console {
    /// Begins a conversation: reads from `output`, and writes to `input`. With `mirror`, every line
    /// that is received is also shown to the person.
    pub fn new(
        output: impl Read + Send + 'static,
        input: impl Write + Send + 'static,
        mirror: bool,
    ) -> Self {
        let transcript = Transcript::default();
        let copy = transcript.clone();
        copy.begin();
        std::thread::spawn(move || {
            receive(output, &copy, mirror);
            copy.end();
        });
        Self { transcript, input: Box::new(input), cursor: 0 }
    }

    pub(crate) fn shared_transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    /// Waits for `text`. Returns what was received and not looked at before, up to the end of
    /// `text`.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<String, ConsoleError> {
        let cursor = self.cursor;
        let end = self.transcript.wait(&format!("{text:?}"), timeout, |bytes| {
            find(&bytes[cursor..], text.as_bytes()).map(|at| cursor + at + text.len())
        })?;
        Ok(self.take_to(end))
    }

    /// Waits for the end of a line, and returns the line without control sequences and prompts.
    pub fn next_line(&mut self, timeout: Duration) -> Result<String, ConsoleError> {
        self.line("a line", timeout).map(|line| clean(&line))
    }

    fn line(&mut self, expected: &str, timeout: Duration) -> Result<String, ConsoleError> {
        let cursor = self.cursor;
        let end = self.transcript.wait(expected, timeout, |bytes| {
            find(&bytes[cursor..], b"\n").map(|at| cursor + at + 1)
        })?;
        Ok(self.take_to(end))
    }

    /// Waits until `wanted` finds something in a line, and returns that. Each line is without
    /// control sequences and prompts.
    pub fn find_line<T>(
        &mut self,
        expected: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, ConsoleError> {
        self.find_raw_line(expected, timeout, |line| wanted(&clean(line)))
    }

    /// Does the work of [`find_line`](Self::find_line), with lines as they are received.
    fn find_raw_line<T>(
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
            // Guests on other cores may go on to say lines when Stasis has panicked on one.
            self.transcript.check_stop(expected)?;
        }
    }

    /// Sends `bytes`, as if they were typed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ConsoleError> {
        let Err(error) = self.input.write_all(bytes).and_then(|()| self.input.flush()) else {
            return Ok(());
        };
        // A machine that takes nothing has ended, mostly: then its last lines say why.
        match self.transcript.wait("the machine to take its input", END_TIME, |_| None::<()>) {
            Err(ConsoleError::Timeout { .. }) | Ok(()) => Err(error.into()),
            Err(ended) => Err(ended),
        }
    }

    /// Checks that Stasis has not stopped for ever, while we wait for something else than its
    /// words.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Stopped`], with what was `expected`.
    pub fn check_stop(&self, expected: &str) -> Result<(), ConsoleError> {
        self.transcript.check_stop(expected)
    }

    /// Sends a line and the return key.
    pub fn send_line(&mut self, line: &str) -> Result<(), ConsoleError> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// Gives Stasis a command, and returns the lines of its answer without the `ok`.
    pub fn command(&mut self, command: &str) -> Result<Vec<String>, ConsoleError> {
        self.command_within(command, ANSWER_TIME, |_| ())
    }

    /// Does the work of [`command`](Self::command) within another time limit, and passes every line
    /// to `watch` as it is received.
    pub fn command_within(
        &mut self,
        command: &str,
        timeout: Duration,
        mut watch: impl FnMut(&str),
    ) -> Result<Vec<String>, ConsoleError> {
        self.send_line(command)?;
        let expected = format!("the answer to \"{command}\"");
        let mut lines = Vec::new();
        let answer = self.find_raw_line(&expected, timeout, |raw| {
            // The echo is no part of the answer. Nor are lines of the log that came during the
            // echo, which then begins anew.
            if raw.starts_with(PROMPT) {
                lines.clear();
                return None;
            }
            let line = &*clean(raw);
            if line == "ok" {
                return Some(Ok(()));
            }
            if let Some(reason) = line.strip_prefix("error: ") {
                return Some(Err(reason.to_owned()));
            }
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

    /// Detaches from the guest that Stasis's console is attached to.
    pub fn detach(&mut self) -> Result<String, ConsoleError> {
        self.send(&[DETACH])?;
        self.wait_for(PROMPT, ANSWER_TIME)
    }

    /// Passes over everything that was received until now.
    pub fn skip(&mut self) {
        self.cursor = self.transcript.len();
    }

    /// Returns everything that was received so far, and behind it QEMU's own messages.
    pub fn transcript(&self) -> String {
        self.transcript.all()
    }

    /// Waits until the other side has ended.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<(), ConsoleError> {
        match self.transcript.wait("the end", timeout, |_| None::<()>) {
            Err(ConsoleError::Ended { .. }) => Ok(()),
            other => other,
        }
    }

    fn take_to(&mut self, end: usize) -> String {
        let text = self.transcript.text(self.cursor..end);
        self.cursor = end;
        text
    }
}

fn receive(mut output: impl Read, transcript: &Transcript, mirror: bool) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    // A line that the machine's end has cut off is an end like any other.
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        let bytes = &buffer[..count];
        transcript.append(bytes);
        if mirror {
            line.extend_from_slice(bytes);
            while let Some(end) = find(&line, b"\n") {
                let rest = line.split_off(end + 1);
                report::note(format_args!("| {}", clean(&String::from_utf8_lossy(&line))));
                line = rest;
            }
        }
    }
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
    fn a_line_of_the_log_in_the_midst_of_the_echo_is_no_part_of_the_answer() {
        let (mut console, mut machine) = pair();
        machine
            .write_all(b"stasis> gue\r\n[1.0] warning: x\r\nstasis> guests\r\n0 linux\r\nok\r\n")
            .unwrap();
        assert_eq!(console.command("guests").unwrap(), ["0 linux"]);
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
    fn a_panic_ends_each_wait_with_its_report() {
        let (mut console, mut machine) = pair();
        let report = b"\r\n*** Stasis panicked on core 1\r\npanicked at boot/src/main.rs:7:1:\r\n";
        machine.write_all(b"stasis> ").unwrap();
        machine.write_all(report).unwrap();
        console.wait_for("panicked on core", SOON).expect("its words can be waited for");
        let start = Instant::now();
        let error = console.wait_for("never", 6 * SOON).unwrap_err();
        let wanted =
            "for \"never\"; it said:\n    | *** Stasis panicked on core 1\n    | panicked at boot";
        assert!(error.to_string().contains(wanted), "{error}");
        let error = console.command_within("guests", 6 * SOON, |_| ()).unwrap_err();
        assert!(matches!(error, ConsoleError::Stopped { .. }), "{error}");
        assert!(console.check_stop("the end").is_err());
        assert!(start.elapsed() < 4 * SOON, "that took {:?}", start.elapsed());
    }

    #[test]
    fn a_panic_ends_the_wait_also_if_guests_go_on_to_say_lines() {
        let (mut console, mut machine) = pair();
        machine.write_all(b"*** SError at EL2 on core 0\r\nESR  0\r\n").unwrap();
        console.wait_for("ESR  0\r\n", SOON).unwrap();
        console.wait_for("the rest of the report", SOON).unwrap_err();
        machine.write_all(&b"tick\r\n".repeat(50)).unwrap();
        while console.transcript().matches("tick").count() < 50 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut seen = 0;
        let error = console.find_line("a tock", SOON, |line| {
            seen += 1;
            (line == "tock").then_some(())
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("    | *** SError at EL2 on core 0\n    | ESR  0\n"), "{error}");
        assert_eq!(seen, 1, "{seen} lines were waited for");
    }

    #[test]
    fn the_machines_end_ends_the_wait() {
        let (mut console, machine) = pair();
        drop(machine);
        assert!(matches!(console.next_line(SOON), Err(ConsoleError::Ended { .. })));
        console.wait_for_end(SOON).unwrap();
    }

    #[test]
    fn what_is_sent_to_a_machine_that_has_ended_fails_with_its_last_lines() {
        let (mut console, mut machine) = pair();
        machine.write_all(b"qemu: no such device\r\n").unwrap();
        drop(machine);
        let error = console.send_line("guests").unwrap_err().to_string();
        assert!(error.contains("the machine ended") && error.contains("no such device"), "{error}");
    }
}
