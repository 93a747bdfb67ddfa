//! All that has come over the line, and waiting for more.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::text::clean;

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

    /// How many bytes have come.
    pub(super) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Some of them as text.
    pub(super) fn text(&self, range: Range<usize>) -> String {
        String::from_utf8_lossy(&self.lock().bytes[range]).into_owned()
    }

    /// All of them as text, and what was complained of behind it.
    pub(super) fn all(&self) -> String {
        String::from_utf8_lossy(&self.lock().all()).into_owned()
    }

    /// Waits until `look` finds something in the bytes, for at most `timeout`.
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

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    shown.iter().map(|line| format!("    | {}\n", clean(line))).collect()
}
