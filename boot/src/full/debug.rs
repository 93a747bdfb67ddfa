//! Debuggers' visits to guests: each is a stream of the channel, `gdb GUEST`, with gdb's remote
//! protocol in it.
//!
//! [`stasis_debug`] has the protocol, [`Debugged`] the guest. A visit goes on between two commands
//! alone, when nobody has its guest parked. It is dropped at any time, also while a command has its
//! guest parked; so a guest that was left waits in [`LEFT`] until [`serve`] lets it go on.

use crate::channel::endpoint::{Endpoint, Step, StreamFailure};
use crate::work::Work;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use stasis_channel::pipe::Pipe;
use stasis_debug::session::{BUFFER_BYTES, End, Session};
use stasis_host::task::TaskLock;
use stasis_run::domain::{Debugged, Domain};
use stasis_run::roster;
use stasis_run::turns::Task;

/// Guests whose debuggers have left.
static LEFT: TaskLock<Vec<Debugged>> = TaskLock::new(Vec::new());

/// Most packets' bytes that a visit takes in one step.
const MOST: usize = 4096;

/// A debugger's visit to a guest, as a stream's end.
#[expect(clippy::large_enum_variant, reason = "it is in a box already, and there are few")]
pub enum Visit {
    /// The debugger has come, and the guest was not stopped yet.
    Comes(Arc<Domain>),
    /// The debugger is there.
    IsThere(Buffered),
    /// The visit is over: well, or for this reason.
    IsOver(Result<(), StreamFailure>),
}

/// Why a guest gets no debugger: no memory is free for it.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no memory is free for a debugger")]
pub struct NoMemory;

/// Opens a visit to a guest.
pub fn open(domain: Arc<Domain>) -> Box<dyn Endpoint> {
    Box::new(Visit::Comes(domain))
}

/// Lets the guests go on whose debuggers have left. Returns whether there were any. Nobody has a
/// guest parked.
pub fn serve(task: &mut Task) -> bool {
    let left = core::mem::take(&mut *LEFT.lock(task));
    let was_busy = !left.is_empty();
    for guest in left {
        log::info!("guest \"{}\" has no debugger any more", guest.domain().name);
    }
    was_busy
}

impl Endpoint for Visit {
    fn work(&mut self, _: &mut Work, pipe: &mut Pipe) -> Step {
        if let Self::Comes(domain) = self {
            let guest = match Debugged::begin(domain.clone()) {
                Ok(guest) => guest,
                Err(misfit) => return Step::Ended(Err(Arc::new(misfit))),
            };
            log::info!("guest \"{}\" has a debugger", domain.name);
            *self = match Buffered::begin(guest) {
                Some(visit) => Self::IsThere(visit),
                None => return Step::Ended(Err(Arc::new(NoMemory))),
            };
        }
        if let Self::IsThere(visit) = self {
            match go_on(&mut visit.session, pipe) {
                Ok(step) => return step,
                Err(End::Left | End::Ended) => *self = Self::IsOver(Ok(())),
                Err(end) => *self = Self::IsOver(Err(Arc::new(end))),
            }
        }
        match self {
            Self::IsOver(how) => Step::Ended(how.clone()),
            Self::Comes(_) | Self::IsThere(_) => Step::Waits,
        }
    }
}

/// Takes what has come, and answers. The error says why the visit is over.
fn go_on(session: &mut Session<'static, Debugged>, pipe: &mut Pipe) -> Result<Step, End> {
    for _ in 0..MOST {
        let sent = pipe.write(session.answers());
        session.sent(sent);
        if !session.answers().is_empty() {
            return Ok(Step::Waits);
        }
        if let Some(end) = session.end() {
            return Err(end);
        }
        if session.is_running() {
            if let Some(stop) = session.machine().take_stop() {
                session.stopped(stop);
                continue;
            }
        } else if !session.machine().is_held() {
            return Err(End::Ended);
        } else if !session.machine().is_loaded() {
            // The guest's memory is still being brought from the disk, which the console's task
            // does meanwhile.
            return Ok(Step::Soon);
        }
        match pipe.read() {
            Some(byte) => session.receive(byte),
            None if pipe.is_at_end() => return Err(End::Left),
            None => return Ok(Step::Waits),
        }
    }
    Ok(Step::Soon)
}

/// A session with the buffer that it borrows.
pub struct Buffered {
    session: ManuallyDrop<Session<'static, Debugged>>,
    buffer: NonNull<[u8; BUFFER_BYTES]>,
}

// SAFETY: the buffer is this value's own, and is not bound to a core.
unsafe impl Send for Buffered {}

impl Buffered {
    /// Begins a session; `None` if there is no memory for its buffer.
    fn begin(guest: Debugged) -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(BUFFER_BYTES).ok()?;
        bytes.resize(BUFFER_BYTES, 0);
        let buffer: Box<[u8; BUFFER_BYTES]> = bytes.into_boxed_slice().try_into().ok()?;
        let mut buffer = NonNull::from(Box::leak(buffer));
        // SAFETY: 1. The buffer was just allocated, so it is there, aligned and initialized. 2. It
        // is freed by `drop` alone, which ends the session before; so it is there for as long as
        // the reference. 3. The session has the only reference: nobody uses `buffer` before that.
        let session = Session::new(guest, unsafe { buffer.as_mut() });
        Some(Self { session: ManuallyDrop::new(session), buffer })
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        // SAFETY: the session is taken once, here, and not used afterwards.
        let session = unsafe { ManuallyDrop::take(&mut self.session) };
        let guest = session.into_machine();
        // A command may have the guest parked. If there is no memory for the note, the guest is let
        // go on at once, which is right between commands.
        let mut left = LEFT.lock_without_task();
        if left.try_reserve(1).is_ok() {
            left.push(guest);
        }
        drop(left);
        roster::wake_console();
        // SAFETY: 1. The buffer came from `Box::leak`, in `begin`. 2. The session, which had the
        // only reference to it, is gone.
        drop(unsafe { Box::from_raw(self.buffer.as_ptr()) });
    }
}
