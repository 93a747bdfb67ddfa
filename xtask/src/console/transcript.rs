//! [`Transcript`]: everything that was received over the line, and waiting for more.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::last_words::LastWords;
use super::text::clean;

/// Number of lines of the transcript that an error shows.
const TAIL_LINES: usize = 30;

/// Why a conversation has failed.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// What was waited for was not received in time.
    #[error("waited {} s in vain for {expected}; the last lines were:\n{tail}", waited.as_secs_f32())]
    Timeout {
        /// What was waited for.
        expected: String,
        /// How long it was waited for.
        waited: Duration,
        /// The end of the transcript.
        tail: String,
    },
    /// The machine has ended while something was waited for.
    #[error("the machine ended while we waited for {expected}; the last lines were:\n{tail}")]
    Ended {
        /// What was waited for.
        expected: String,
        /// The end of the transcript.
        tail: String,
    },
    /// Stasis has panicked, or said otherwise that it will do nothing any more.
    #[error("Stasis has stopped for ever, so we wait in vain for {expected}; it said:\n{report}")]
    Stopped {
        /// What was waited for.
        expected: String,
        /// What Stasis has said of it.
        report: String,
    },
    /// The answer to a command was `error: `.
    #[error("\"{command}\" was answered with: error: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// The text behind `error: `.
        reason: String,
    },
    /// The machine takes no more input.
    #[error("cannot send to the machine: {0}")]
    Send(#[from] io::Error),
}

/// Everything that was received. The threads that read share it.
#[derive(Clone, Default)]
pub(crate) struct Transcript {
    shared: Arc<(Mutex<Received>, Condvar)>,
}

#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    /// What QEMU itself has said, apart from the line: it may come at any time, even within a word
    /// of the line.
    complaints: Vec<u8>,
    last_words: Option<LastWords>,
    /// Number of threads that read what the machine and QEMU say.
    readers: usize,
}

impl Received {
    /// Returns the bytes of the line, and behind them what QEMU has said.
    fn all(&self) -> Vec<u8> {
        let mut all = self.bytes.clone();
        if !self.complaints.is_empty() && !matches!(all.last(), None | Some(b'\n')) {
            all.push(b'\n');
        }
        all.extend_from_slice(&self.complaints);
        all
    }

    /// Checks that Stasis has not stopped, or that its report of that is still under way.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Stopped`], with what was `expected`.
    fn check_stop(&self, expected: &str) -> Result<(), ConsoleError> {
        let has_all = |words: &LastWords| self.readers == 0 || words.time_left().is_zero();
        match self.last_words.filter(has_all) {
            Some(words) => Err(ConsoleError::Stopped {
                expected: expected.to_owned(),
                report: words.report(&self.bytes),
            }),
            None => Ok(()),
        }
    }
}

impl Transcript {
    fn lock(&self) -> MutexGuard<'_, Received> {
        // A thread that has panicked while it appended bytes has left nothing half done.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append(&self, bytes: &[u8]) {
        let mut received = self.lock();
        let old = received.bytes.len();
        received.bytes.extend_from_slice(bytes);
        if received.last_words.is_none() {
            received.last_words = LastWords::find(&received.bytes, old);
        }
        self.shared.1.notify_all();
    }

    /// Keeps bytes that nobody waits for, and that errors show.
    pub(crate) fn complain(&self, bytes: &[u8]) {
        self.lock().complaints.extend_from_slice(bytes);
    }

    /// Counts a thread that reads what the machine or QEMU says. The thread calls
    /// [`end`](Self::end).
    pub(crate) fn begin(&self) {
        self.lock().readers += 1;
    }

    /// Notes that a thread has read all that it could. Nothing more comes when all of them have.
    pub(crate) fn end(&self) {
        self.lock().readers -= 1;
        self.shared.1.notify_all();
    }

    /// Checks that Stasis has not stopped, or that its report of that is still under way.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::Stopped`], with what was `expected`.
    pub(super) fn check_stop(&self, expected: &str) -> Result<(), ConsoleError> {
        self.lock().check_stop(expected)
    }

    /// Returns the number of bytes that were received.
    pub(super) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Returns some of the bytes as text.
    pub(super) fn text(&self, range: Range<usize>) -> String {
        String::from_utf8_lossy(&self.lock().bytes[range]).into_owned()
    }

    /// Returns all of the bytes as text, and behind them what QEMU has said.
    pub(super) fn all(&self) -> String {
        String::from_utf8_lossy(&self.lock().all()).into_owned()
    }

    /// Waits at most `timeout` until `look` finds something in the bytes, and returns that.
    pub(super) fn wait<T>(
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
            received.check_stop(expected)?;
            if received.readers == 0 {
                return Err(ConsoleError::Ended {
                    expected: expected.to_owned(),
                    tail: tail(&received.all()),
                });
            }
            let mut left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConsoleError::Timeout {
                    expected: expected.to_owned(),
                    waited: timeout,
                    tail: tail(&received.all()),
                });
            }
            if let Some(words) = received.last_words {
                left = left.min(words.time_left());
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

/// Returns a time limit for this machine. Limits are made for a fast one; `STASIS_TIME_FACTOR`
/// stretches them.
pub(super) fn scaled(timeout: Duration) -> Duration {
    let factor = std::env::var("STASIS_TIME_FACTOR").ok().and_then(|factor| factor.parse().ok());
    timeout.mul_f32(factor.unwrap_or(1.0))
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    | {}\n", clean(line))).collect()
}
