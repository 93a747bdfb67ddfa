//! Requests: command lines that come by the channel, and their answers. One that takes long is carried out at a time, and others wait for it.

use super::watch::Watch;
use super::{line, transfer, with};
use crate::answer::Answer;
use crate::console::commands::{self, Refusal};
use crate::work::Work;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_channel::message::{Progress, Status};
use stasis_channel::{Frame, Kind, MAX_PAYLOAD};
use stasis_console::command::{self, Command};
use stasis_run::turns::Task;

/// The request that is carried out. Only the console's task uses it.
static CURRENT: SpinMutex<Current> = SpinMutex::new(Current::new(None));

struct Current {
    /// The id of the request; `None` if none is carried out, or the client that sent it is gone.
    id: Option<u16>,
    /// Whether it must be given up.
    is_given_up: bool,
    /// How it ends then.
    end: (Status, &'static str),
    /// Whether the work knows that.
    was_noticed: bool,
    /// What of its progress was not sent yet: the verb, how much is done, and of how much.
    progress: Option<(&'static str, u64, u64)>,
}

/// The way of an answer's pieces to the client.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    id: u16,
    kind: Kind,
    /// Whether it answers the request that is carried out, which may have lost its client.
    is_current: bool,
}

impl Current {
    /// Returns the state in which this request is carried out, or none.
    const fn new(id: Option<u16>) -> Self {
        let end = (Status::GivenUp, "given up");
        Self { id, is_given_up: false, end, was_noticed: false, progress: None }
    }
}

impl Ticket {
    /// Sends a piece of the answer, unless the client is gone.
    pub fn send(&self, task: &mut Task, bytes: &[u8]) {
        for payload in bytes.chunks(MAX_PAYLOAD) {
            if !self.is_current || CURRENT.lock().id == Some(self.id) {
                line::send(task, Frame { kind: self.kind, id: self.id, payload });
            }
        }
    }

    /// Notes how far the request is. The client is told at the next pause.
    pub fn progress(&self, what: &'static str, done: u64, total: u64) {
        CURRENT.lock().progress = Some((what, done, total));
    }
}

/// Returns the kind of the frames with the answer to a command.
fn kind_of(command: &Command) -> Kind {
    if command.answers_in_json() { Kind::Rows } else { Kind::Text }
}

/// What has become of a request that has come.
pub enum Begun {
    /// The request has ended, with this result.
    Ended(Result<(), (Status, String)>),
    /// The request is answered again and again.
    Watches(Watch),
    /// The request must wait for its turn.
    Waits,
}

/// Answers a request that needs nothing but the task, or that is wrong.
pub fn begin(task: &mut Task, id: u16, line: &str) -> Begun {
    let failed = |why: &str| Begun::Ended(Err((Status::Failed, why.to_string())));
    let command = match command::parse(line) {
        Ok(Command::Attach { .. }) => return failed("a program opens the stream \"attach GUEST\""),
        Ok(Command::Cancel) => return failed("a program sends a frame to cancel a request"),
        Ok(command) => command,
        Err(error) => return Begun::Ended(Err(said(Refusal::Mistyped(error)))),
    };
    let ticket = Ticket { id, kind: kind_of(&command), is_current: false };
    let mut answer = Answer::to_channel(ticket);
    if let Some(result) = commands::look(task, &command, &mut answer) {
        answer.send(task);
        return Begun::Ended(result.map_err(|why| (Status::Failed, why)));
    }
    match commands::guests_are_free().then(|| Watch::of(id, &command, answer)).flatten() {
        Some(watch) => Begun::Watches(watch),
        None => Begun::Waits,
    }
}

/// Carries out a request that has waited.
pub fn carry_out(work: &mut Work, id: u16, line: &str) {
    *CURRENT.lock() = Current::new(Some(id));
    let kind = command::parse(line).map_or(Kind::Text, |command| kind_of(&command));
    let mut answer = Answer::to_channel(Ticket { id, kind, is_current: true });
    let result = match put(line) {
        Some(put) => received(work, id, put, &mut answer),
        None => commands::execute(work, line, &mut answer).map_err(said),
    };
    let after = Current::new(None);
    let Current { id: current, was_noticed, end, .. } =
        core::mem::replace(&mut *CURRENT.lock(), after);
    let result = result.map_err(|(status, why)| match (was_noticed, end) {
        (true, (Status::GivenUp, _)) => (Status::GivenUp, why),
        (true, (status, why)) => (status, why.to_string()),
        (false, _) => (status, why),
    });
    if current == Some(id) {
        with(|channel| channel.desk.end(work.task, id, result));
    }
}

/// Returns the name and the length of a checkpoint that a stream brings, if a line is about one.
fn put(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let name = words.next().filter(|word| *word == "put").and(words.next())?;
    Some((name, words.next()?.parse().ok()?))
}

/// Takes the checkpoint that a stream brings.
fn received(
    work: &mut Work,
    id: u16,
    put: (&str, u64),
    answer: &mut Answer,
) -> Result<(), (Status, String)> {
    let result = transfer::receive(work, id, put, answer);
    answer.send(work.task);
    result.map_err(|error| (Status::Failed, error.to_string()))
}

fn said(refusal: Refusal) -> (Status, String) {
    let status = match refusal {
        Refusal::Mistyped(_) => Status::Mistyped,
        Refusal::Failed(_) => Status::Failed,
    };
    (status, refusal.into())
}

/// Gives up the request with this id, which ends so, if it is carried out. Returns whether it is.
pub fn give_up(id: u16, status: Status, why: &'static str) -> bool {
    let mut current = CURRENT.lock();
    let is_it = current.id == Some(id);
    if is_it {
        (current.is_given_up, current.end) = (true, (status, why));
    }
    is_it
}

/// Notes that the client is gone that wanted the request that is carried out, which is given up.
pub fn disown() {
    let mut current = CURRENT.lock();
    current.is_given_up |= current.id.take().is_some();
}

/// Returns whether the request that is carried out must be given up. The caller must give it up then: that it has asked is noted.
pub fn is_given_up() -> bool {
    let mut current = CURRENT.lock();
    current.was_noticed |= current.is_given_up;
    current.is_given_up
}

/// Returns whether a request is carried out, and no command of the console.
pub fn is_carried_out() -> bool {
    let current = CURRENT.lock();
    current.id.is_some() || current.is_given_up
}

/// Tells the client how far the request is that is carried out, if that is news.
pub fn send_progress(task: &mut Task) {
    let (id, progress) = {
        let mut current = CURRENT.lock();
        (current.id, current.progress.take())
    };
    if let (Some(id), Some((what, done, total))) = (id, progress) {
        let mut payload = Vec::from(Progress::head(done, total));
        payload.extend(what.bytes());
        line::send(task, Frame { kind: Kind::Progress, id, payload: &payload });
    }
}
