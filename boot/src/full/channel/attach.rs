//! The stream `attach GUEST`: a guest's UART, or its terminal, for as many clients as like, beside
//! the console.

use super::endpoint::{Endpoint, Step};
use crate::console::find::NoTerminal;
use crate::terminal;
use alloc::sync::Arc;
use stasis_channel::pipe::Pipe;
use stasis_console::{Port, ReaderId};
use stasis_host::run_state::RunState;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// The stream.
pub struct Attach {
    domain: Arc<Domain>,
    port: Port,
    /// Whether the guest is known to have the port.
    is_there: bool,
    reader: ReaderId,
    /// Whether the guest is gone, and the client has all that it has sent.
    has_ended: bool,
}

impl Attach {
    /// Returns a stream that begins with what is kept of what the guest has sent by its UART.
    pub fn to_uart(domain: Arc<Domain>) -> Self {
        let port = Port::uart(domain.number);
        Self::to(domain, port)
    }

    /// Returns a stream that begins with what is kept of what the guest has printed at its
    /// terminal.
    pub fn to_terminal(domain: Arc<Domain>) -> Self {
        let port = Port::terminal(domain.number);
        Self::to(domain, port)
    }

    fn to(domain: Arc<Domain>, port: Port) -> Self {
        let reader = terminal::add_reader(port);
        Self { domain, port, is_there: !port.is_terminal, reader, has_ended: false }
    }

    /// Types what the client has sent, as far as there is room.
    fn type_in(&self, pipe: &mut Pipe) {
        let room = match self.port.is_terminal {
            true => self.domain.room_at_terminal(),
            false => self.domain.room_for_input(),
        };
        for _ in 0..room.min(pipe.waiting()) {
            let Some(byte) = pipe.read() else { return };
            match self.port.is_terminal {
                true => self.domain.type_at_terminal(byte),
                false => self.domain.type_in(byte.into()),
            }
        }
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        terminal::remove_reader(self.reader);
    }
}

impl Endpoint for Attach {
    fn step(&mut self, task: &mut Task, pipe: &mut Pipe) -> Step {
        if !self.is_there {
            match self.domain.try_has_terminal() {
                Some(true) => self.is_there = true,
                Some(false) => return Step::Ended(Err(Arc::new(NoTerminal::of(&self.domain)))),
                // Whoever has the guest now, does not keep it for long.
                None => return Step::Soon,
            }
        }
        // Before it is read: what a guest has sent is forgotten before it is removed.
        let is_gone = self.domain.try_state() == Some(RunState::Removed);
        let room = pipe.room();
        let bytes = terminal::read_output(task, self.reader, is_gone, room);
        pipe.write(&bytes);
        self.type_in(pipe);
        self.has_ended |= is_gone && bytes.len() < room;
        if self.has_ended || pipe.is_at_end() {
            Step::Ended(Ok(()))
        } else if pipe.waiting() > 0 {
            // The guest makes room without a word.
            Step::Soon
        } else {
            Step::Waits
        }
    }
}
