//! [`Client::ask`]: one request, and its answer.

use std::time::{Duration, Instant};

use crate::{Client, Error, Message, Status};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text for a person, or rows for a program.
    Bytes(&'a [u8]),
    /// How far the request is.
    Progress {
        /// How much is done.
        done: u64,
        /// How much there is to do.
        total: u64,
        /// The verb, such as `stored`.
        what: &'a str,
    },
    /// Nothing new, for a moment.
    Nothing,
}

impl Client {
    /// Sends a command line, passes the parts of the answer to `take`, and returns at the answer's
    /// end. `take` returns whether it still wants the request, which is given up otherwise. What
    /// belongs to nobody's request is dropped.
    ///
    /// # Errors
    ///
    /// The session is lost, or [`Error::Refused`], or [`Error::TooLong`]. By a signal, or behind
    /// the session's limit, the request is given up, and its end waited for; by a second signal it
    /// is left. If it is done all the same, the next [`Self::next`] fails instead: who asks for
    /// more is told then.
    pub fn ask(&mut self, line: &str, take: &mut dyn FnMut(Part<'_>) -> bool) -> Result<(), Error> {
        const MOMENT: Duration = Duration::from_millis(100);
        let id = self.request(line)?;
        let (mut is_wanted, mut given_up) = (true, None);
        loop {
            let message = match self.next(Some(Instant::now() + MOMENT)) {
                Err(error @ (Error::Interrupted(_) | Error::TooLong)) if is_wanted => {
                    (is_wanted, given_up) = (false, Some(error));
                    self.cancel(id)?;
                    continue;
                }
                message => message?,
            };
            let wants = match &message {
                Some(Message::Text { id: of, bytes } | Message::Rows { id: of, bytes })
                    if *of == id =>
                {
                    take(Part::Bytes(bytes))
                }
                Some(Message::Progress { id: of, done, total, what }) if *of == id => {
                    take(Part::Progress { done: *done, total: *total, what })
                }
                Some(Message::Done { id: of, status, why }) if *of == id => {
                    return match (status, given_up) {
                        (Status::Done, given_up) => {
                            self.untold = given_up;
                            Ok(())
                        }
                        (Status::GivenUp, Some(Error::TooLong)) => Err(Error::TooLong),
                        _ => Err(Error::Refused { status: *status, why: why.clone() }),
                    };
                }
                None if self.has_vanished(id) => return Err(Error::Damaged),
                _ => take(Part::Nothing),
            };
            if is_wanted && !wants {
                is_wanted = false;
                self.cancel(id)?;
            }
        }
    }

    /// Sends a command line, and returns all of the answer.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub fn answer(&mut self, line: &str) -> Result<String, Error> {
        let mut answer = Vec::new();
        self.ask(line, &mut |part| {
            if let Part::Bytes(bytes) = part {
                answer.extend_from_slice(bytes);
            }
            true
        })?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}
