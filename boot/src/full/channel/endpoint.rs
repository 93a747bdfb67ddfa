//! The machine's end of a stream of the channel: [`Endpoint`].

use crate::work::Work;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Display;
use stasis_channel::pipe::Pipe;
use stasis_run::turns::Task;

/// Why a stream has not ended well: an error, of which nothing but its text is wanted. With
/// `dyn Error` the image would have what prints each of them for a debugger, 10 KB of it.
pub type StreamFailure = Arc<dyn Display + Send + Sync>;

/// What an endpoint's step has come to.
pub enum Step {
    /// The stream waits: for bytes, for room, or for something else that wakes the console's task.
    Waits,
    /// The stream waits for something that wakes nobody: it must be asked again within 10 ms.
    Soon,
    /// What has come must be taken in the turn of a request, by the stream's name. It may say so
    /// again.
    Ready,
    /// The stream has come to its end: well, or for this reason. What it has written is sent before
    /// the client is told.
    Ended(Result<(), StreamFailure>),
}

/// What a stream leads to. It goes on by steps of the console's task, which must be short: other
/// work waits meanwhile. Whatever happens elsewhere that an endpoint waits for wakes the task by
/// [`wake_console`](stasis_run::roster::wake_console).
///
/// An endpoint whose client is gone, or has given the stream up, is dropped. One that has ended is
/// asked again until all is sent, and must say again that it has ended.
pub trait Endpoint: Send {
    /// Goes on as far as it can without waiting. This may be in the midst of a command, so nothing
    /// but the task is at hand, and a guest may be parked.
    fn step(&mut self, _: &mut Task, _: &mut Pipe) -> Step {
        Step::Waits
    }

    /// Goes on with what needs more than the task, between two commands.
    fn work(&mut self, _: &mut Work, _: &mut Pipe) -> Step {
        Step::Waits
    }

    /// Reads the next bytes of what it has gathered, as much as there is room for, for the request
    /// that takes it. Returns how many bytes that are, and whether no more will come; `None` if it
    /// gathers nothing: then they are in the pipe.
    fn gathered(&mut self, _: &mut [u8]) -> Option<(usize, bool)> {
        None
    }
}

/// A stream.
pub struct Stream {
    /// The id of the stream.
    pub id: u16,
    /// The name by which it was opened.
    pub name: String,
    /// What it leads to.
    pub end: Box<dyn Endpoint>,
    /// Whether it must be asked again soon.
    pub is_soon: bool,
    /// Whether a request takes what has come.
    pub is_taken: bool,
}
