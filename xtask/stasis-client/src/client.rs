//! [`Client`]: a session with a machine.
//!
//! [`greet`] begins it, and looks whether the machine is still there; [`streams`] has its streams.

mod greet;
mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use stasis_channel::message::{NONCE, Welcome};
use stasis_channel::{Frame, Kind};

use self::streams::Flow;
use crate::lock::Lock;
use crate::signals::Signals;
use crate::target::DEFAULT_BAUD;
use crate::wire::Wire;
use crate::{Error, Message};

/// The time between two pings while an answer is waited for.
const PING: Duration = Duration::from_secs(1);

/// What a client wants of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bits per second of a serial device.
    pub baud: u32,
    /// Whether events are sent.
    pub events: bool,
    /// The time in which the machine must answer: to the hello, and later to a ping.
    pub patience: Duration,
    /// The time that the session may take in all, from the connection on; `None` for as long as it
    /// likes.
    pub limit: Option<Duration>,
    /// Whether SIGINT, SIGTERM and SIGHUP end the session by [`Error::Interrupted`], and not the
    /// process. The machine is told then that what is under way is given up.
    pub catches_signals: bool,
    /// The client's name.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        let name = format!("stasis {}", env!("CARGO_PKG_VERSION"));
        Self {
            baud: DEFAULT_BAUD,
            events: false,
            patience: Duration::from_secs(10),
            limit: None,
            catches_signals: false,
            name,
        }
    }
}

/// What the machine has said to be under way. A ping has the id of the last request or stream that
/// was begun before it.
#[derive(Debug, Default)]
struct UnderWay {
    /// The ping's id; 0 before the first answer, and of a ping before the first request.
    last: u16,
    /// All that was under way.
    ids: Vec<u16>,
}

impl UnderWay {
    /// Returns whether a request or a stream had begun and was not under way.
    fn lacks(&self, id: u16) -> bool {
        // Ids begin again behind the last one.
        let had_begun = self.last != 0 && self.last.wrapping_sub(id) < 1 << 15;
        had_begun && !self.ids.contains(&id)
    }
}

/// A session with a machine. When this is dropped, the machine gives up what is under way.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    target: String,
    options: Options,
    /// The machine in words, and the number of its boot.
    machine: (String, u32),
    /// What answers to this session's hellos repeat, and nothing else that comes has.
    nonce: [u8; NONCE],
    messages: VecDeque<Message>,
    flows: BTreeMap<u16, Flow>,
    last_id: u16,
    /// Another client has begun a session.
    is_taken_over: bool,
    heard: Instant,
    pinged: Instant,
    /// When the first ping was sent since the machine was heard.
    asked: Option<Instant>,
    under_way: UnderWay,
    /// When the session has taken too long; `None` if it may go on, or that was told.
    limit: Option<Instant>,
    signals: Option<Signals>,
    /// By what a request was given up that was done before the machine heard of it.
    pub(crate) untold: Option<Error>,
    /// The sign for others that a tool has this channel; `None` if many can use it at a time.
    _lock: Option<Lock>,
}

impl Client {
    /// Returns the machine in words, such as `Stasis 0.1.0 on linux,dummy-virt`.
    pub fn machine(&self) -> &str {
        &self.machine.0
    }

    /// Makes these signals end the session from now on, as [`Options::catches_signals`] does, and
    /// leaves others to whom they belong.
    ///
    /// # Errors
    ///
    /// Linux has no file for it.
    pub fn catch(&mut self, signals: &[Signal]) -> Result<(), Error> {
        // The signals of before are let go first: each leaves the thread the mask that it has
        // found.
        self.signals = None;
        self.signals = Some(Signals::catch(signals)?);
        Ok(())
    }

    /// Sends a command line, and returns the request's id.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn request(&mut self, line: &str) -> Result<u16, Error> {
        let id = self.next_id();
        self.send(Kind::Request, id, line.as_bytes())?;
        Ok(id)
    }

    /// Returns the id of the next request or stream.
    pub(crate) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// Wants a request or a stream to be given up. Its end comes all the same.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn cancel(&mut self, id: u16) -> Result<(), Error> {
        self.send(Kind::Cancel, id, &[])
    }

    /// Returns the next message. Waits for it until `until`, or for ever; `None` if none has come
    /// by then.
    ///
    /// # Errors
    ///
    /// The session is lost: the connection, the machine's answers, or to another client.
    /// [`Error::Interrupted`] for each signal, and once [`Error::TooLong`]: the session is as it
    /// was then, and who gives it up drops it.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Option<Message>, Error> {
        loop {
            self.check_wanted()?;
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.is_taken_over {
                return Err(Error::TakenOver);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let limit = self.limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            let pause = [left, limit].into_iter().flatten().fold(PING, Duration::min);
            wait(&mut self.polled(), pause)?;
            self.receive(&mut Self::take)?;
            self.keep_alive()?;
            if self.messages.is_empty() && left == Some(Duration::ZERO) {
                return Ok(None);
            }
        }
    }

    /// Fails if a signal has come, or if the session has taken too long, which is told once.
    fn check_wanted(&mut self) -> Result<(), Error> {
        if let Some(error) = self.untold.take() {
            return Err(error);
        }
        if let Some(signal) = self.signals.as_ref().and_then(Signals::take) {
            return Err(Error::Interrupted(signal));
        }
        match self.limit.take_if(|limit| Instant::now() >= *limit) {
            Some(_) => Err(Error::TooLong),
            None => Ok(()),
        }
    }

    /// Returns the next message, whenever it comes. `id` is a request or a stream that is waited
    /// for.
    ///
    /// # Errors
    ///
    /// The session is lost, or the line has lost the end of `id`.
    pub fn next_for(&mut self, id: u16) -> Result<Message, Error> {
        loop {
            match self.next(Some(Instant::now() + PING))? {
                Some(message) => return Ok(message),
                None if self.has_vanished(id) => return Err(Error::Damaged),
                None => {}
            }
        }
    }

    /// Returns whether a request or a stream was not under way any more when the machine was last
    /// asked. Its end is lost if it has not come.
    pub fn has_vanished(&self, id: u16) -> bool {
        self.under_way.lacks(id)
    }

    fn take(&mut self, frame: Frame) {
        let Frame { kind, id, payload } = frame;
        match kind {
            Kind::Data => self.take_data(id, payload),
            Kind::Grant => {
                if let (Some(flow), Some(limit)) = (self.flows.get_mut(&id), payload.first_chunk())
                {
                    flow.outgoing.grant(u32::from_le_bytes(*limit));
                    self.messages.push_back(Message::Room { id });
                }
            }
            Kind::End => self.take_end(id, payload),
            Kind::Welcome => self.note_welcome(payload),
            Kind::Pong => self.note_pong(id, payload),
            _ => {
                if kind == Kind::Done {
                    self.flows.remove(&id);
                }
                self.messages.extend(Message::of(frame));
            }
        }
    }

    /// Notes what the machine says to be under way, in its answer to the ping with this id.
    fn note_pong(&mut self, id: u16, payload: &[u8]) {
        let ids = payload.get(4..).unwrap_or(&[]).chunks_exact(2);
        let ids = ids.map(|id| u16::from_le_bytes([id[0], id[1]])).collect();
        self.under_way = UnderWay { last: id, ids };
    }

    /// Notes whether a welcome is another client's: each hello of this session has its own nonce.
    fn note_welcome(&mut self, payload: &[u8]) {
        let is_ours = Welcome::parse(payload).is_some_and(|it| it.nonce == self.nonce);
        self.is_taken_over |= !is_ours;
    }

    /// Sends a frame, or as much of it as the line takes now; the rest goes when something is
    /// waited for.
    pub(crate) fn send(&mut self, kind: Kind, id: u16, payload: &[u8]) -> Result<(), Error> {
        self.wire.send(kind, id, payload)
    }

    /// Returns what is waited for where this session is: bytes of the machine's, signals, and room
    /// for what waits.
    pub(crate) fn polled(&self) -> Vec<PollFd<'_>> {
        let signals = self.signals.as_ref().map(Signals::as_fd);
        let signals = signals.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        signals.into_iter().chain([self.wire.polled()]).collect()
    }

    /// Returns the frames that have come, for who keeps the session's requests and streams itself.
    /// Asks the machine whether it is there if it has been silent. What an answer to a ping says to
    /// be under way is noted, for [`Self::has_vanished`].
    ///
    /// # Errors
    ///
    /// The errors of [`Self::next`].
    pub(crate) fn frames(&mut self) -> Result<Vec<(Kind, u16, Vec<u8>)>, Error> {
        self.check_wanted()?;
        let frames = self.wire.receive()?;
        if !frames.is_empty() {
            self.hear();
        }
        self.keep_alive()?;
        for (kind, id, payload) in &frames {
            match kind {
                Kind::Welcome => self.note_welcome(payload),
                Kind::Pong => self.note_pong(*id, payload),
                _ => {}
            }
        }
        if self.is_taken_over { Err(Error::TakenOver) } else { Ok(frames) }
    }

    /// Notes that the machine is there.
    fn hear(&mut self) {
        (self.heard, self.asked) = (Instant::now(), None);
    }

    /// Returns the number of the machine's boot.
    pub(crate) fn boot(&self) -> u32 {
        self.machine.1
    }

    /// Passes all frames that have come to `take`.
    fn receive(&mut self, take: &mut dyn FnMut(&mut Self, Frame)) -> Result<(), Error> {
        for (kind, id, payload) in self.wire.receive()? {
            self.hear();
            take(self, Frame { kind, id, payload: &payload });
        }
        Ok(())
    }

    /// Returns what becomes readable when [`Self::next`] has something to return.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.wire.as_fd()].into_iter().chain(self.signals.as_ref().map(Signals::as_fd))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        /// The machine may be busy. What it does not hear of, it hears of by the next hello.
        const PATIENCE: Duration = Duration::from_millis(500);
        let until = Instant::now() + PATIENCE;
        let mut result = self.send(Kind::Bye, 0, &[]);
        // QEMU drops what it has not passed on when the connection is closed.
        let mut is_over = false;
        while result.is_ok() && !is_over && Instant::now() < until {
            // The signals stay: whoever sends one more does not end this earlier.
            let left = until.saturating_duration_since(Instant::now());
            result = wait(&mut [self.wire.polled()], left);
            result = result.and_then(|()| {
                self.receive(&mut |_, frame| is_over |= (frame.kind, frame.id) == (Kind::Done, 0))
            });
        }
    }
}

/// Waits until bytes have come, or more can be sent of what waits, or a signal has come; no longer
/// than `limit`.
fn wait(polled: &mut [PollFd<'_>], limit: Duration) -> Result<(), Error> {
    let limit = PollTimeout::try_from(limit.as_millis().min(60_000) as i32 + 1);
    match poll(polled, limit.unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::Lost(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_behind_the_ping_is_not_taken_for_one_that_has_vanished() {
        assert!(!UnderWay::default().lacks(1));
        let said = UnderWay { last: 7, ids: vec![5] };
        assert!(said.lacks(7) && said.lacks(6) && !said.lacks(5) && !said.lacks(8));
        let said = UnderWay { last: u16::MAX, ids: vec![] };
        assert!(said.lacks(u16::MAX) && !said.lacks(1));
    }
}
