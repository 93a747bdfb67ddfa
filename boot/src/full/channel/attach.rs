//! The stream `attach GUEST`: a guest's UART, for as many clients as like, beside the terminal.

use super::streams::{Endpoint, Step};
use crate::terminal;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use stasis_channel::pipe::Pipe;
use stasis_host::run_state::RunState;
use stasis_run::domain::Domain;
use stasis_run::roster;
use stasis_run::turns::Task;

/// Number of streams that want what guests send. The task writes it; relaxed, for what is missed in the moment is seen in the task's next turn.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);

/// Wakes the task, if any stream wants what a guest has just sent.
pub fn note_output() {
    if LISTENERS.load(Ordering::Relaxed) > 0 {
        roster::wake_console();
    }
}

/// The stream.
pub struct Attach {
    domain: Arc<Domain>,
    /// Number of the guest's bytes that were sent to the client, or passed over.
    position: u64,
}

impl Attach {
    /// Returns a stream that begins with what is kept of what the guest has sent.
    pub fn new(domain: Arc<Domain>) -> Self {
        LISTENERS.fetch_add(1, Ordering::Relaxed);
        Self { domain, position: 0 }
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint for Attach {
    fn step(&mut self, task: &mut Task, pipe: &mut Pipe) -> Step {
        let number = self.domain.number;
        let bytes: Vec<u8> = terminal::read_output(task, number, &mut self.position, pipe.room());
        pipe.write(&bytes);
        for _ in 0..self.domain.room_for_input().min(pipe.waiting()) {
            pipe.read().into_iter().for_each(|byte| self.domain.type_in(byte.into()));
        }
        match self.domain.try_state() {
            Some(RunState::Removed) => Step::Ended(Ok(())),
            _ if pipe.is_at_end() => Step::Ended(Ok(())),
            // The guest makes room without a word.
            _ if pipe.waiting() > 0 => Step::Soon,
            _ => Step::Waits,
        }
    }
}
