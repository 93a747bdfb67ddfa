//! The beginning of a session, and the signs that the machine is still there.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use stasis_channel::message::{NONCE, WANTS_EVENTS, Welcome};
use stasis_channel::shared::WAKE;
use stasis_channel::{Frame, Kind, VERSION};

use super::{Client, Options, PING, UnderWay, wait};
use crate::lock::Lock;
use crate::signals::{ENDING, Signals};
use crate::target::Line;
use crate::wire::Wire;
use crate::{Error, Target};

/// Returns bytes that nobody foresees: the seed of the standard library's hash tables is random.
fn nonce() -> [u8; NONCE] {
    let hash = RandomState::new().build_hasher().finish();
    (hash as u32).to_le_bytes()
}

/// Waits as long as `patience` until no other tool has the channel.
fn wait_for_lock(target: &Target, patience: Duration) -> Result<Lock, Error> {
    const AGAIN: Duration = Duration::from_millis(20);
    let start = Instant::now();
    loop {
        match Lock::take(target) {
            Some(lock) => return Ok(lock),
            None if start.elapsed() >= patience => return Err(Error::InUse(target.to_string())),
            None => std::thread::sleep(AGAIN),
        }
    }
}

impl Client {
    /// Connects to a machine's channel, and begins a session.
    ///
    /// # Errors
    ///
    /// The connection can't be made, another tool has it, the machine does not answer in time, or
    /// it speaks another version.
    pub fn connect(target: &Target, options: Options) -> Result<Self, Error> {
        let lock = match Lock::is_shared(target) {
            true => None,
            false => Some(wait_for_lock(target, options.patience)?),
        };
        let line = Line::open(target, options.baud).map_err(Error::Connect)?;
        let signals = options.catches_signals.then(|| Signals::catch(&ENDING)).transpose()?;
        let now = Instant::now();
        let mut client = Self {
            wire: Wire::new(line),
            target: target.to_string(),
            // A time beyond all that can be told is none.
            limit: options.limit.and_then(|limit| now.checked_add(limit)),
            options,
            machine: (String::new(), 0),
            nonce: nonce(),
            messages: VecDeque::new(),
            flows: BTreeMap::new(),
            last_id: 0,
            is_taken_over: false,
            heard: now,
            pinged: now,
            asked: None,
            under_way: UnderWay::default(),
            signals,
            untold: None,
            _lock: lock,
        };
        client.machine = client.greet()?;
        Ok(client)
    }

    /// Says hello until the machine says welcome. Returns the machine in words, and the number of
    /// its boot.
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
            wait(&mut self.polled(), AGAIN / 5)?;
            self.check_wanted()?;
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
        Err(Error::NoAnswer { target: self.target.clone(), limit: self.options.patience })
    }

    /// Returns what a frame answers to a hello of this session: the machine in words and the number
    /// of its boot, or that it speaks no version of ours.
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

    /// Asks a machine that was not heard for a while whether it is there, and looks why if it has
    /// not answered in time. Comes behind a look at what has come: a tool may have been suspended,
    /// and then has neither asked nor listened.
    pub(super) fn keep_alive(&mut self) -> Result<(), Error> {
        let silent = self.heard.elapsed();
        if self.asked.is_some_and(|asked| asked.elapsed() >= self.options.patience) {
            let before = self.machine.1;
            return Err(match self.greet() {
                Ok((_, boot)) if boot != before => Error::Reset,
                Ok(_) | Err(Error::NoAnswer { .. }) => Error::Silent(silent),
                Err(error) => error,
            });
        }
        if silent >= PING && self.ping()? {
            // The line may have lost a grant.
            let grants: Vec<(u16, u32)> =
                self.flows.iter().map(|(id, flow)| (*id, flow.incoming.limit())).collect();
            for (id, limit) in grants {
                self.send(Kind::Grant, id, &limit.to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// Asks the machine what is under way, unless it was asked less than [`PING`] ago. Returns
    /// whether it is asked.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub(crate) fn ping(&mut self) -> Result<bool, Error> {
        if self.pinged.elapsed() < PING {
            return Ok(false);
        }
        self.pinged = Instant::now();
        self.asked.get_or_insert(self.pinged);
        self.send(Kind::Ping, self.last_id, &[])?;
        Ok(true)
    }
}
