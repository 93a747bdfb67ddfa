//! The request of the channel that is carried out, whose work can be given up: by its client, or
//! because that is gone. [`Ticket`] is its answer's way to the client.

use super::line;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_channel::message::{Progress, Status};
use stasis_channel::{Frame, Kind, MAX_PAYLOAD};
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
    /// The id of the request.
    pub id: u16,
    /// The kind of the frames with the answer.
    pub kind: Kind,
    /// Whether it answers the request that is carried out, which may have lost its client.
    pub is_current: bool,
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

/// Begins to carry out the request with this id.
pub fn begin(id: u16) {
    *CURRENT.lock() = Current::new(Some(id));
}

/// Ends what was carried out, with its result. Returns the id of the request, if its client is
/// there, and what the client is told of the result.
pub fn end(result: Result<(), (Status, String)>) -> (Option<u16>, Result<(), (Status, String)>) {
    let current = core::mem::replace(&mut *CURRENT.lock(), Current::new(None));
    let result = result.map_err(|(status, why)| match (current.was_noticed, current.end) {
        (true, (Status::GivenUp, _)) => (Status::GivenUp, why),
        (true, (status, why)) => (status, why.to_string()),
        (false, _) => (status, why),
    });
    (current.id, result)
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

/// Returns whether the request that is carried out must be given up. The caller must give it up
/// then: that it has asked is noted.
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
