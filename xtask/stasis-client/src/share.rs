//! [`Share`]: one session with a machine for many clients of this host. Each speaks the channel
//! with it as with the machine.
//!
//! Requests and streams of all clients have ids of the machine's session; a table says whose they
//! are, and what the client calls them. Streams keep their flow from end to end, so what waits in
//! here is bounded by what clients have granted.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stasis_channel::Kind;
use stasis_channel::message::{Hello, NONCE, Status, WANTS_EVENTS};
use stasis_channel::session::{MAX_OPEN, refusal, welcome};

use crate::rendezvous::Rendezvous;
use crate::target::Line;
use crate::wire::Wire;
use crate::{Client, Error};

/// Clients at a time.
const MOST: usize = 64;

/// Bytes that wait for a client that does not read, from which on it is left alone.
const TOO_MUCH: usize = 4 << 20;

/// A client.
struct Guest {
    wire: Wire,
    /// Whether the tool has said hello, and has not left.
    is_open: bool,
    wants_events: bool,
}

/// Whose a request or a stream is.
#[derive(Clone, Copy)]
struct Owner {
    /// The client's number; `None` if it is gone.
    guest: Option<u64>,
    /// What the client calls it.
    id: u16,
}

/// A frame that has come.
struct Come {
    kind: Kind,
    id: u16,
    payload: Vec<u8>,
}

/// A machine and its clients.
#[must_use = "it serves clients only when it runs"]
pub struct Share {
    /// Dropped first: who comes while the machine is told finds no socket.
    place: Rendezvous,
    machine: Client,
    guests: BTreeMap<u64, Guest>,
    owners: BTreeMap<u16, Owner>,
    last_guest: u64,
}

impl Come {
    fn all(frames: Vec<(Kind, u16, Vec<u8>)>) -> impl Iterator<Item = Self> {
        frames.into_iter().map(|(kind, id, payload)| Self { kind, id, payload })
    }
}

impl Share {
    /// Returns what shares a session among those who connect to `place`.
    pub fn new(machine: Client, place: Rendezvous) -> Self {
        Self { place, machine, guests: BTreeMap::new(), owners: BTreeMap::new(), last_guest: 0 }
    }

    /// Serves clients until a signal ends it.
    ///
    /// # Errors
    ///
    /// How the machine was lost.
    pub fn run(mut self) -> Result<(), Error> {
        loop {
            self.wait()?;
            match self.machine.frames() {
                Err(Error::Interrupted(_)) => return Ok(()),
                frames => Come::all(frames?).for_each(|frame| self.take_from_machine(frame)),
            }
            // The line has lost their ends, or their beginnings: a client that asks is told so.
            self.owners.retain(|id, _| !self.machine.has_vanished(*id));
            self.accept();
            self.take_from_guests()?;
        }
    }

    fn wait(&self) -> Result<(), Error> {
        const TICK: u16 = 500;
        let mut waiting: Vec<PollFd> =
            self.guests.values().map(|guest| guest.wire.polled()).collect();
        waiting.extend(self.machine.polled());
        waiting.push(PollFd::new(self.place.as_fd(), PollFlags::POLLIN));
        match poll(&mut waiting, PollTimeout::from(TICK)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::Lost(errno.into())),
        }
    }

    fn accept(&mut self) {
        while let Ok(stream) = self.place.accept() {
            // One that is too many, or that can't be asked without waiting, is closed.
            if self.guests.len() >= MOST || stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.last_guest += 1;
            let wire = Wire::new(Line::Socket(OwnedFd::from(stream).into()));
            let guest = Guest { wire, is_open: false, wants_events: false };
            self.guests.insert(self.last_guest, guest);
        }
    }

    fn take_from_machine(&mut self, frame: Come) {
        let Come { kind, id, payload } = frame;
        if kind == Kind::Event {
            for guest in
                self.guests.values_mut().filter(|guest| guest.is_open && guest.wants_events)
            {
                // One that is lost is found when it is read.
                let _ = guest.wire.send(kind, 0, &payload);
            }
            return;
        }
        let Some(owner) = self.owners.get(&id).copied() else { return };
        if kind == Kind::Done {
            self.owners.remove(&id);
        }
        if let Some(guest) = owner.guest.and_then(|number| self.guests.get_mut(&number)) {
            let _ = guest.wire.send(kind, owner.id, &payload);
        }
    }

    fn take_from_guests(&mut self) -> Result<(), Error> {
        let numbers: Vec<u64> = self.guests.keys().copied().collect();
        for number in numbers {
            let Some(guest) = self.guests.get_mut(&number) else { continue };
            let frames = match guest.wire.receive() {
                Ok(frames) if guest.wire.waiting() <= TOO_MUCH => frames,
                _ => {
                    self.give_up(number)?;
                    self.guests.remove(&number);
                    continue;
                }
            };
            for frame in Come::all(frames) {
                self.take_from_guest(number, frame)?;
            }
        }
        Ok(())
    }

    /// Gives up all that a client has under way.
    fn give_up(&mut self, number: u64) -> Result<(), Error> {
        for (id, owner) in &mut self.owners {
            if owner.guest == Some(number) {
                owner.guest = None;
                self.machine.send(Kind::Cancel, *id, &[])?;
            }
        }
        Ok(())
    }

    fn take_from_guest(&mut self, number: u64, frame: Come) -> Result<(), Error> {
        let Come { kind, id, payload } = frame;
        let is_open = self.guests.get(&number).is_some_and(|guest| guest.is_open);
        match kind {
            Kind::Hello => {
                self.give_up(number)?;
                self.hello(number, &payload);
            }
            _ if !is_open => {}
            Kind::Bye => {
                self.give_up(number)?;
                self.answer(number, Kind::Done, 0, &[Status::Done as u8]);
                self.guests.entry(number).and_modify(|guest| guest.is_open = false);
            }
            Kind::Ping => {
                let ids = self.owners.values().filter(|owner| owner.guest == Some(number));
                let ids = ids.flat_map(|owner| owner.id.to_le_bytes());
                let pong: Vec<u8> = [0; 4].into_iter().chain(ids).collect();
                self.answer(number, Kind::Pong, id, &pong);
                // What the machine does not know of is not under way, whoever is in between.
                self.machine.ping()?;
            }
            Kind::Request | Kind::Open => self.begin(number, Come { kind, id, payload })?,
            Kind::Cancel | Kind::Data | Kind::Grant | Kind::End => {
                if let Some(ours) = self.ours(number, id) {
                    self.machine.send(kind, ours, &payload)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hello(&mut self, number: u64, payload: &[u8]) {
        let hello = Hello::parse(payload);
        let nonce = hello.map_or([0; NONCE], |hello| hello.nonce);
        let Some(hello) = hello.filter(Hello::fits) else {
            return self.answer(number, Kind::Refused, 0, &refusal(nonce));
        };
        let wants_events = hello.wants & WANTS_EVENTS != 0;
        self.guests.entry(number).and_modify(|guest| {
            (guest.is_open, guest.wants_events) = (true, wants_events);
        });
        let welcome = welcome(nonce, self.machine.boot(), self.machine.machine());
        self.answer(number, Kind::Welcome, 0, &welcome);
    }

    fn answer(&mut self, number: u64, kind: Kind, id: u16, payload: &[u8]) {
        if let Some(guest) = self.guests.get_mut(&number) {
            let _ = guest.wire.send(kind, id, payload);
        }
    }

    /// Returns the machine's id for what a client calls `id`.
    fn ours(&self, number: u64, id: u16) -> Option<u16> {
        let is_it = |owner: &Owner| owner.guest == Some(number) && owner.id == id;
        self.owners.iter().find(|(_, owner)| is_it(owner)).map(|(ours, _)| *ours)
    }

    fn begin(&mut self, number: u64, frame: Come) -> Result<(), Error> {
        let Come { kind, id, payload } = frame;
        if id == 0 || self.ours(number, id).is_some() {
            return Ok(());
        }
        if self.owners.len() >= MAX_OPEN {
            let busy =
                [&[Status::Busy as u8][..], b"too much is under way, of all clients"].concat();
            self.answer(number, Kind::Done, id, &busy);
            return Ok(());
        }
        let ours = loop {
            let id = self.machine.next_id();
            if !self.owners.contains_key(&id) {
                break id;
            }
        };
        self.owners.insert(ours, Owner { guest: Some(number), id });
        self.machine.send(kind, ours, &payload)
    }
}
