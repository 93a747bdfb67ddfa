//! [`Client`]: a session with a machine.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stasis_channel::flow::{Incoming, MAX_DATA, Outgoing};
use stasis_channel::message::{NONCE, WANTS_EVENTS, Welcome};
use stasis_channel::shared::WAKE;
use stasis_channel::{Frame, Kind, VERSION};

use crate::lock::Lock;
use crate::target::{DEFAULT_BAUD, Line};
use crate::wire::Wire;
use crate::{Error, Message, Status, Target};

/// Bytes of a stream that the machine may send before the client has taken any.
const WINDOW: u32 = 64 << 10;

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
    /// The client's name.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        let name = format!("stasis {}", env!("CARGO_PKG_VERSION"));
        Self { baud: DEFAULT_BAUD, events: false, patience: Duration::from_secs(10), name }
    }
}

/// The flow of a stream.
#[derive(Debug, Default)]
struct Flow {
    incoming: Incoming,
    outgoing: Outgoing,
}

/// Returns bytes that nobody foresees: the seed of the standard library's hash tables is random.
fn nonce() -> [u8; NONCE] {
    let hash = RandomState::new().build_hasher().finish();
    (hash as u32).to_le_bytes()
}

/// What the machine has said to be under way. A ping has the id of the last request or stream that was begun before it.
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
    under_way: UnderWay,
    /// The sign for others that a tool has this channel; `None` if another one has it.
    lock: Option<Lock>,
}

impl Client {
    /// Connects to a machine's channel, and begins a session.
    ///
    /// # Errors
    ///
    /// The connection can't be made, another tool has it, the machine does not answer in time, or it speaks another version.
    pub fn connect(target: &Target, options: Options) -> Result<Self, Error> {
        let lock = Lock::take(target);
        let line = Line::open(target, options.baud).map_err(Error::Connect)?;
        let now = Instant::now();
        let mut client = Self {
            wire: Wire::new(line),
            target: target.to_string(),
            options,
            machine: (String::new(), 0),
            nonce: nonce(),
            messages: VecDeque::new(),
            flows: BTreeMap::new(),
            last_id: 0,
            is_taken_over: false,
            heard: now,
            pinged: now,
            under_way: UnderWay::default(),
            lock,
        };
        client.machine = client.greet()?;
        Ok(client)
    }

    /// Says hello until the machine says welcome. Returns the machine in words, and the number of its boot.
    fn greet(&mut self) -> Result<(String, u32), Error> {
        /// A machine that was not ready for a hello gets another one.
        const AGAIN: Duration = Duration::from_millis(500);
        let start = Instant::now();
        let mut said: Option<Instant> = None;
        let mut hello = vec![VERSION, VERSION, if self.options.events { WANTS_EVENTS } else { 0 }];
        hello.extend(self.nonce);
        hello.extend(self.options.name.bytes().take(64));
        while start.elapsed() < self.options.patience {
            if said.is_none_or(|said| said.elapsed() >= AGAIN) {
                self.wire.add(&WAKE);
                self.send(Kind::Hello, 0, &hello)?;
                said = Some(Instant::now());
            }
            self.wait(Some(AGAIN / 5))?;
            let mut answer = None;
            self.receive(&mut |client, frame| {
                answer = client.greeting(frame).or(answer.take());
            })?;
            match answer {
                Some(Ok(machine)) => {
                    // What came before belongs to no request of this session.
                    self.messages.clear();
                    return Ok(machine);
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        match self.lock {
            Some(_) => {
                Err(Error::NoAnswer { target: self.target.clone(), limit: self.options.patience })
            }
            None => Err(Error::InUse(self.target.clone())),
        }
    }

    /// Returns what a frame answers to a hello of this session: the machine in words and the number of its boot, or that it speaks no version of ours.
    fn greeting(&self, frame: Frame) -> Option<Result<(String, u32), Error>> {
        match frame.kind {
            Kind::Welcome => Welcome::parse(frame.payload)
                .filter(|welcome| welcome.nonce == self.nonce)
                .map(|welcome| Ok((welcome.name.to_owned(), welcome.boot))),
            Kind::Refused => {
                let (&[lowest, highest], nonce) = frame.payload.split_first_chunk()?;
                nonce.starts_with(&self.nonce).then_some(Err(Error::Version { lowest, highest }))
            }
            _ => None,
        }
    }

    /// Returns the machine in words, such as `Stasis 0.1.0 on linux,dummy-virt`.
    pub fn machine(&self) -> &str {
        &self.machine.0
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

    /// Opens a stream, such as `attach linux`, and returns its id.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn open(&mut self, name: &str) -> Result<u16, Error> {
        let id = self.next_id();
        self.send(Kind::Open, id, name.as_bytes())?;
        let mut flow = Flow::default();
        let grant = flow.incoming.grant(WINDOW as usize, WINDOW);
        self.flows.insert(id, flow);
        if let Some(limit) = grant {
            self.send(Kind::Grant, id, &limit.to_le_bytes())?;
        }
        Ok(id)
    }

    fn next_id(&mut self) -> u16 {
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

    /// Returns how many bytes of a stream can be sent now.
    pub fn room(&self, id: u16) -> usize {
        self.flows.get(&id).map_or(0, |flow| flow.outgoing.room())
    }

    /// Sends as many of `bytes` as the machine has room for, and returns their number.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn write(&mut self, id: u16, bytes: &[u8]) -> Result<usize, Error> {
        let count = bytes.len().min(self.room(id));
        for piece in bytes[..count].chunks(MAX_DATA) {
            let Some(flow) = self.flows.get_mut(&id) else { break };
            let mut payload = flow.outgoing.send(piece.len()).to_le_bytes().to_vec();
            payload.extend_from_slice(piece);
            self.send(Kind::Data, id, &payload)?;
        }
        Ok(count)
    }

    /// Says that this side sends no more of a stream.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub fn end(&mut self, id: u16) -> Result<(), Error> {
        let sent = self.flows.get(&id).map_or(0, |flow| flow.outgoing.sent());
        self.send(Kind::End, id, &sent.to_le_bytes())
    }

    /// Returns the next message. Waits for it until `until`, or for ever; `None` if none has come by then.
    ///
    /// # Errors
    ///
    /// The session is lost: the connection, the machine's answers, or to another client.
    pub fn next(&mut self, until: Option<Instant>) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            if self.is_taken_over {
                return Err(Error::TakenOver);
            }
            self.keep_alive()?;
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            self.wait(Some(left.unwrap_or(PING).min(PING)))?;
            self.receive(&mut Self::take)?;
            if self.messages.is_empty() && left == Some(Duration::ZERO) {
                return Ok(None);
            }
        }
    }

    /// Returns the next message, whenever it comes. `id` is a request or a stream that is waited for.
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

    /// Asks a machine that was not heard for a while whether it is there, and looks why if it is not.
    fn keep_alive(&mut self) -> Result<(), Error> {
        let silent = self.heard.elapsed();
        if silent >= self.options.patience {
            let before = self.machine.1;
            return Err(match self.greet() {
                Ok((_, boot)) if boot != before => Error::Reset,
                Ok(_) | Err(Error::NoAnswer { .. }) => Error::Silent(silent),
                Err(error) => error,
            });
        }
        if silent >= PING && self.pinged.elapsed() >= PING {
            self.pinged = Instant::now();
            self.send(Kind::Ping, self.last_id, &[])?;
            // The line may have lost a grant.
            let grants: Vec<(u16, u32)> =
                self.flows.iter().map(|(id, flow)| (*id, flow.incoming.limit())).collect();
            for (id, limit) in grants {
                self.send(Kind::Grant, id, &limit.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Returns whether a request or a stream was not under way any more when the machine was last asked. Its end is lost if it has not come.
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
            // Each hello of this session has its own.
            Kind::Welcome => {
                let is_ours = Welcome::parse(payload).is_some_and(|it| it.nonce == self.nonce);
                self.is_taken_over |= !is_ours;
            }
            Kind::Pong => {
                let ids = payload.get(4..).unwrap_or(&[]).chunks_exact(2);
                let ids = ids.map(|id| u16::from_le_bytes([id[0], id[1]])).collect();
                self.under_way = UnderWay { last: id, ids };
            }
            _ => {
                if kind == Kind::Done {
                    self.flows.remove(&id);
                }
                self.messages.extend(Message::of(frame));
            }
        }
    }

    fn take_end(&mut self, id: u16, payload: &[u8]) {
        let Some((total, _)) = payload.split_first_chunk() else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        match flow.incoming.take(u32::from_le_bytes(*total), 0) {
            Ok(()) => self.messages.push_back(Message::End { id }),
            Err(error) => self.lose(id, &error.to_string()),
        }
    }

    /// Ends a stream of which the line has lost something.
    fn lose(&mut self, id: u16, why: &str) {
        self.flows.remove(&id);
        let (status, why) = (Status::Lost, why.to_owned());
        self.messages.push_back(Message::Done { id, status, why });
    }

    fn take_data(&mut self, id: u16, payload: &[u8]) {
        let Some((offset, bytes)) = payload.split_first_chunk() else { return };
        let Some(flow) = self.flows.get_mut(&id) else { return };
        if let Err(error) = flow.incoming.take(u32::from_le_bytes(*offset), bytes.len()) {
            self.lose(id, &error.to_string());
            return;
        }
        self.messages.push_back(Message::Data { id, bytes: bytes.to_vec() });
        if let Some(limit) = flow.incoming.grant(WINDOW as usize, WINDOW) {
            // A connection that is lost is found when it is read next.
            let _ = self.send(Kind::Grant, id, &limit.to_le_bytes());
        }
    }

    /// Sends a frame, or as much of it as the line takes now; the rest goes when something is waited for.
    fn send(&mut self, kind: Kind, id: u16, payload: &[u8]) -> Result<(), Error> {
        self.wire.send(kind, id, payload)
    }

    /// Waits until bytes have come, or more can be sent of what waits.
    fn wait(&self, limit: Option<Duration>) -> Result<(), Error> {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.wire.waiting() > 0);
        let limit = limit.map_or(PollTimeout::NONE, |limit| {
            PollTimeout::try_from(limit.as_millis().min(60_000) as i32 + 1)
                .unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.as_fd(), flags)], limit) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::Lost(errno.into())),
        }
    }

    /// Passes all frames that have come to `take`.
    fn receive(&mut self, take: &mut dyn FnMut(&mut Self, Frame)) -> Result<(), Error> {
        for (kind, id, payload) in self.wire.receive()? {
            self.heard = Instant::now();
            take(self, Frame { kind, id, payload: &payload });
        }
        Ok(())
    }

    /// Returns the line of the session, the machine in words, and the number of its boot. Nobody says goodbye then.
    pub(crate) fn into_wire(mut self) -> Result<(Wire, String, u32), Error> {
        let (name, boot) = std::mem::take(&mut self.machine);
        let nowhere = Wire::new(Line::nowhere()?);
        Ok((std::mem::replace(&mut self.wire, nowhere), name, boot))
    }
}

impl AsFd for Client {
    /// Returns what becomes readable when [`Client::next`] has something to return.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
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
            result = self.wait(Some(until.saturating_duration_since(Instant::now())));
            result = result.and_then(|()| {
                self.receive(&mut |_, frame| is_over |= (frame.kind, frame.id) == (Kind::Done, 0))
            });
        }
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
