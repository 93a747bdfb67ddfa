//! Streams: bytes in both directions between a client and something on the machine, which is an [`Endpoint`].

use super::attach::Attach;
use super::desk::Desk;
use super::transfer::{Get, Put};
use super::with;
use crate::console::commands::find;
use crate::debug;
use crate::work::Work;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use stasis_channel::message::Status;
use stasis_channel::pipe::Pipe;
use stasis_run::turns::Task;

/// What an endpoint's step has come to.
#[derive(Debug)]
pub enum Step {
    /// The stream waits: for bytes, for room, or for something else that wakes the console's task.
    Waits,
    /// The stream waits for something that wakes nobody: it must be asked again within 10 ms.
    Soon,
    /// The stream has come to its end: well, or for this reason. What it has written is sent before the client is told.
    Ended(Result<(), String>),
}

/// What a stream leads to. It goes on by steps of the console's task, which must be short: other work waits meanwhile. Whatever happens elsewhere that an
/// endpoint waits for wakes the task by [`wake_console`](stasis_run::roster::wake_console).
///
/// An endpoint whose client is gone, or has given the stream up, is dropped. One that has ended is asked again until all is sent, and must say again that it has ended.
pub trait Endpoint: Send {
    /// Goes on as far as it can without waiting. This may be in the midst of a command, so nothing but the task is at hand, and a guest may be parked.
    fn step(&mut self, _: &mut Task, _: &mut Pipe) -> Step {
        Step::Waits
    }

    /// Goes on with what needs more than the task, between two commands.
    fn work(&mut self, _: &mut Work, _: &mut Pipe) -> Step {
        Step::Waits
    }
}

/// A stream.
pub struct Stream {
    /// The id of the stream.
    pub id: u16,
    /// What it leads to.
    pub end: Box<dyn Endpoint>,
    /// Whether it must be asked again soon.
    pub is_soon: bool,
}

/// Opens what `name` says, as a command line does.
///
/// # Errors
///
/// The status and the reason, for the client.
pub fn open(name: &str) -> Result<Box<dyn Endpoint>, (Status, String)> {
    let mut words = name.split_ascii_whitespace();
    let words = core::array::from_fn(|_| words.next());
    match words {
        [Some("attach"), Some(guest), None, _] => {
            let domain = find(guest).map_err(|why| (Status::Failed, why))?;
            Ok(Box::new(Attach::to_uart(domain)))
        }
        [Some("attach"), Some(guest), Some("--terminal"), None] => {
            let domain = find(guest).map_err(|why| (Status::Failed, why))?;
            Ok(Box::new(Attach::to_terminal(domain)))
        }
        [Some("gdb"), Some(guest), None, _] => {
            debug::open(guest).map_err(|why| (Status::Failed, why))
        }
        [Some("get"), Some(which), None, _] => Ok(Box::new(Get::new(which))),
        [Some("put"), Some(_), Some(length), None] if length.parse::<u64>().is_ok() => {
            Ok(Box::new(Put))
        }
        [Some("echo"), None, ..] => Ok(Box::new(Echo)),
        _ => Err((
            Status::Mistyped,
            format!(
                "no stream \"{name}\"; there are: attach GUEST [--terminal], gdb GUEST, get CHECKPOINT, put NAME BYTES, echo"
            ),
        )),
    }
}

/// Returns whether what a stream's client sends is taken in the turn of a request: by [`receive`](super::transfer::receive).
pub fn is_put(name: &str) -> bool {
    name.split_ascii_whitespace().next() == Some("put")
}

/// Sends back what comes: for tests of a line.
struct Echo;

impl Endpoint for Echo {
    fn step(&mut self, _: &mut Task, pipe: &mut Pipe) -> Step {
        while pipe.room() > 0
            && let Some(byte) = pipe.read()
        {
            pipe.write(&[byte]);
        }
        match pipe.is_at_end() {
            true => Step::Ended(Ok(())),
            false => Step::Waits,
        }
    }
}

/// Lets each endpoint go on that needs more than the task. Returns whether one has more to do.
pub fn work(work: &mut Work) -> bool {
    let step = |end: &mut dyn Endpoint, work: &mut Work, pipe: &mut Pipe| end.work(work, pipe);
    with(|channel| channel.desk.step_each(work, step, |work| work.task)).unwrap_or(false)
}

impl Desk {
    /// Lets each endpoint go on that needs nothing but the task. Returns whether one has more to do.
    pub(super) fn step_streams(&mut self, task: &mut Task) -> bool {
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
            stream.is_soon = matches!(stepped, Step::Soon);
            match stepped {
                Step::Ended(result) if is_sent => {
                    let result = result.map_err(|why| (Status::Failed, why));
                    self.end(task(context), id, result);
                }
                // One that has ended waits until the client grants more.
                _ => self.streams.push(stream),
            }
        }
        is_busy
    }
}
