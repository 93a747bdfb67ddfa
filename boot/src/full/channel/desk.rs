//! [`Desk`]: what clients have under way, and what is done when a frame comes.

use super::endpoint::{Endpoint, Step, Stream};
use super::streams::{self, NotOpened};
use super::watch::TopWatch;
use super::{current, events, line, requests};
use crate::work::Work;
use crate::{terminal, typed};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_channel::message::Status;
use stasis_channel::pipe::Pipe;
use stasis_channel::session::{Action, Session};
use stasis_channel::stream::StreamName;
use stasis_channel::{Frame, Kind, MAX_PAYLOAD};
use stasis_run::turns::Task;
use stasis_run::{clock, random};

/// What is under way.
pub(super) struct Desk {
    /// The rules.
    pub(super) session: Session,
    /// Requests that wait for their turn: their ids and their command lines.
    waiting: VecDeque<(u16, String)>,
    pub(super) streams: Vec<Stream>,
    watches: Vec<TopWatch>,
    guests: events::GuestWatch,
    /// The machine, in words.
    name: String,
    /// A number that is another one after each boot.
    boot: u32,
}

impl Desk {
    /// Returns a desk with nothing on it, of a machine of this model.
    pub(super) fn new(model: &str) -> Self {
        Self {
            session: Session::new(),
            waiting: VecDeque::new(),
            streams: Vec::new(),
            watches: Vec::new(),
            guests: events::GuestWatch::default(),
            name: format!("Stasis {} on {model}", env!("CARGO_PKG_VERSION")),
            boot: random::bytes()
                .map_or_else(|| timer::counter() as u32 ^ clock::date() as u32, u32::from_le_bytes),
        }
    }

    /// Takes out the request that has waited longest.
    pub(super) fn next_waiting(&mut self) -> Option<(u16, String)> {
        self.waiting.pop_front()
    }

    /// Returns the value of the counter at which something must be looked at; `None` if nothing is
    /// planned.
    pub(super) fn next_due(&self) -> Option<u64> {
        let soon = || timer::counter() + timer::frequency() / 100;
        let is_soon = self.streams.iter().any(|stream| stream.is_soon);
        let tables = self.watches.iter().map(|watch| watch.due);
        tables.chain(is_soon.then(soon)).chain(self.guests.next_due()).min()
    }

    /// Carries out what the rules make of a frame.
    pub(super) fn act(&mut self, task: &mut Task, action: Action) {
        match action {
            Action::Nothing => {}
            Action::Begin => {
                self.give_all_up();
                self.guests.set(self.session.wants_events());
                self.send(task, Kind::Welcome, 0, &self.session.welcome(self.boot, &self.name));
            }
            Action::Leave => {
                self.done(task, 0, Status::Done, "");
                self.leave(task);
            }
            Action::Refuse => {
                self.give_all_up();
                self.send(task, Kind::Refused, 0, &self.session.refusal());
            }
            Action::Request { id, line } => self.request(task, id, line),
            Action::Open { id, name } => self.open(task, id, name),
            Action::Cancel(id) => self.give_up(task, id, Status::GivenUp, "given up"),
            // Each turn looks at all streams.
            Action::Look(_) => {}
            Action::Pong(id) => {
                self.send(task, Kind::Pong, id, &self.session.pong());
                self.session.remind();
            }
            Action::End { id, status, why } => self.give_up(task, id, status, why),
        }
    }

    /// Answers a request now, or again and again, if it needs nothing but the task; else in its
    /// turn.
    fn request(&mut self, task: &mut Task, id: u16, line: &str) {
        match requests::begin(task, id, line) {
            requests::Begun::Ended(result) => self.end(task, id, result),
            requests::Begun::Watches(watch) => self.watches.push(watch),
            requests::Begun::Waits => self.wait(id, line),
        }
    }

    fn wait(&mut self, id: u16, line: &str) {
        self.waiting.push_back((id, line.into()));
        typed::others_wait(true);
    }

    fn open(&mut self, task: &mut Task, id: u16, name: &str) {
        let opened = StreamName::parse(name).map_err(NotOpened::from).and_then(streams::open);
        let name = name.to_string();
        match opened {
            Ok(end) => {
                self.streams.push(Stream { id, name, end, is_soon: false, is_taken: false });
            }
            Err(why) => self.done(task, id, why.status(), &why.to_string()),
        }
    }

    /// Reads what the client of a stream has sent, as much as there is room for. Returns how many
    /// bytes that are, and whether no more will come; `None` if there is no such stream any more.
    pub(super) fn receive(&mut self, id: u16, into: &mut [u8]) -> Option<(usize, bool)> {
        let pipe = self.session.pipe(id)?;
        let stream = self.streams.iter_mut().find(|stream| stream.id == id)?;
        let gathered = stream.end.gathered(into);
        Some(gathered.unwrap_or_else(|| (pipe.read_some(into), pipe.is_at_end())))
    }

    /// Ends a request or a stream, with its result, unless it has ended before.
    pub(super) fn end(&mut self, task: &mut Task, id: u16, result: Result<(), (Status, String)>) {
        self.streams.retain(|stream| stream.id != id);
        match result {
            _ if !self.session.has(id) => {}
            Ok(()) => self.done(task, id, Status::Done, ""),
            Err((status, why)) => self.done(task, id, status, &why),
        }
    }

    /// Ends what has this id, unless it is carried out: then the work notices, and its end comes
    /// behind that, so that nobody gets the id meanwhile.
    fn give_up(&mut self, task: &mut Task, id: u16, status: Status, why: &'static str) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.streams.retain(|stream| stream.id != id);
        self.watches.retain(|watch| watch.id != id);
        if !current::give_up(id, status, why) {
            self.done(task, id, status, why);
        }
    }

    /// Ends what the client had under way, which is not there any more.
    fn give_all_up(&mut self) {
        self.waiting.clear();
        self.streams.clear();
        self.watches.clear();
        self.guests.set(false);
        current::disown();
    }

    /// Ends the session.
    pub(super) fn leave(&mut self, task: &mut Task) {
        self.session = Session::new();
        self.give_all_up();
        if line::leave(task) {
            terminal::redraw(task);
        }
    }

    /// Lets all that is under way go on, and sends what has happened. Returns whether something has
    /// more to do at once.
    pub(super) fn step(&mut self, task: &mut Task) -> bool {
        let mut is_busy = self.step_streams(task);
        for mut watch in core::mem::take(&mut self.watches) {
            match watch.step(task) {
                true => self.done(task, watch.id, Status::Done, ""),
                false => self.watches.push(watch),
            }
        }
        if self.session.wants_events() {
            self.guests.look();
            if let Some(event) = events::next() {
                let bytes = event.as_bytes();
                self.send(task, Kind::Event, 0, &bytes[..bytes.len().min(MAX_PAYLOAD)]);
                is_busy = true;
            }
        }
        let said = line::take_said();
        if !said.is_empty() {
            self.send(task, Kind::Console, 0, &said);
            is_busy = true;
        }
        is_busy
    }

    /// Ends a request or a stream: its id is free again.
    fn done(&mut self, task: &mut Task, id: u16, status: Status, why: &str) {
        self.session.close(id);
        let mut payload = Vec::from([status as u8]);
        payload.extend(why.bytes().take(MAX_PAYLOAD - 1));
        self.send(task, Kind::Done, id, &payload);
    }

    /// Sends a frame.
    pub(super) fn send(&self, task: &mut Task, kind: Kind, id: u16, payload: &[u8]) {
        line::send(task, Frame { kind, id, payload });
    }
}

impl Desk {
    /// Lets each endpoint go on that needs more than the task. Returns whether one has more to do.
    pub(super) fn work_streams(&mut self, work: &mut Work) -> bool {
        self.step_each(work, |end, work, pipe| end.work(work, pipe), |work| work.task)
    }

    /// Lets each endpoint go on that needs nothing but the task. Returns whether one has more to
    /// do.
    pub(super) fn step_streams(&mut self, task: &mut Task) -> bool {
        self.streams.iter_mut().for_each(|stream| stream.is_soon = false);
        self.step_each(task, |end, task, pipe| end.step(task, pipe), |task| task)
    }

    fn step_each<C>(
        &mut self,
        context: &mut C,
        mut step: impl FnMut(&mut dyn Endpoint, &mut C, &mut Pipe) -> Step,
        mut task: impl FnMut(&mut C) -> &mut Task,
    ) -> bool {
        let mut is_busy = false;
        for mut stream in core::mem::take(&mut self.streams) {
            let id = stream.id;
            let Some(pipe) = self.session.pipe(id) else { continue };
            let stepped = step(&mut *stream.end, context, pipe);
            if matches!(stepped, Step::Ended(_)) {
                pipe.finish();
            }
            while let Some((kind, payload)) = self.session.pipe(id).and_then(Pipe::next_frame) {
                self.send(task(context), kind, id, &payload);
                is_busy = true;
            }
            let is_sent = self.session.pipe(id).is_none_or(|pipe| pipe.is_sent());
            stream.is_soon |= matches!(stepped, Step::Soon);
            if matches!(stepped, Step::Ready) && !core::mem::replace(&mut stream.is_taken, true) {
                self.wait(id, &stream.name);
            }
            match stepped {
                Step::Ended(result) if is_sent => {
                    let result = result.map_err(|why| (Status::Failed, why.to_string()));
                    self.end(task(context), id, result);
                }
                // One that has ended waits until the client grants more.
                _ => self.streams.push(stream),
            }
        }
        is_busy
    }
}
