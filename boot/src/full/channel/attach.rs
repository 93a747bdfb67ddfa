//! The stream `attach GUEST`: a guest's UART, or its terminal, for as many clients as like, beside
//! the console.

use super::endpoint::{Endpoint, Step};
use crate::console::find::NoTerminal;
use crate::terminal;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_channel::pipe::Pipe;
use stasis_console::Port;
use stasis_host::run_state::RunState;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// The stream.
pub struct Attach {
    domain: Arc<Domain>,
    port: Port,
    /// Whether the guest is known to have the port.
    is_there: bool,
    /// Number of the guest's bytes that were sent to the client, or passed over.
    position: u64,
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
        terminal::add_listener();
        Self { domain, port, is_there: !port.is_terminal, position: 0 }
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
        terminal::remove_listener();
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
        let bytes: Vec<u8> =
            terminal::read_output(task, self.port, &mut self.position, pipe.room());
        pipe.write(&bytes);
        self.type_in(pipe);
        match self.domain.try_state() {
            Some(RunState::Removed) => Step::Ended(Ok(())),
            _ if pipe.is_at_end() => Step::Ended(Ok(())),
            // The guest makes room without a word.
            _ if pipe.waiting() > 0 => Step::Soon,
            _ => Step::Waits,
        }
    }
}
