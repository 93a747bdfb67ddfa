//! A debugger's visit to a guest: bytes go in one at a time, and what is answered waits in a buffer
//! until it is taken.

use core::convert::Infallible;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};
use gdbstub::target::ext::breakpoints::WatchKind;

use crate::machine::Machine;
use crate::plan::Stop;
use crate::points::Kind;
use crate::target::{Target, thread_of};

/// Most bytes of a packet of gdb's: room for one that writes all general registers.
pub const PACKET_BYTES: usize = 4096;

/// Bytes of answers that can wait: an answer is at most twice as long as what is in it, and a
/// little.
const ANSWER_BYTES: usize = 2 * PACKET_BYTES + 64;

/// Bytes of the buffer that a session needs.
pub const BUFFER_BYTES: usize = PACKET_BYTES + ANSWER_BYTES;

/// Answers on their way to gdb.
#[derive(Debug)]
struct Answers<'a> {
    bytes: &'a mut [u8],
    taken: usize,
    len: usize,
}

/// There is no room for an answer: gdb has asked for more than a packet has.
#[derive(Debug)]
struct Full;

impl Connection for Answers<'_> {
    type Error = Full;

    fn write(&mut self, byte: u8) -> Result<(), Full> {
        *self.bytes.get_mut(self.len).ok_or(Full)? = byte;
        self.len += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Full> {
        Ok(())
    }
}

impl Answers<'_> {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..self.len]
    }

    fn take(&mut self, count: usize) {
        self.taken = self.len.min(self.taken + count);
        if self.taken == self.len {
            (self.taken, self.len) = (0, 0);
        }
    }
}

/// Reason why a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// gdb has left. The guest goes on as it was.
    #[error("gdb has left")]
    Left,
    /// The guest has ended, which gdb was told.
    #[error("the guest has ended")]
    Ended,
    /// What came is not of gdb's protocol, or asks for too much.
    #[error("what came is not of gdb's remote protocol: connect gdb or lldb by `target remote`")]
    Protocol,
}

type Stub<'a, M> = GdbStubStateMachine<'a, Target<M>, Answers<'a>>;
type Next<'a, M> = Result<Stub<'a, M>, GdbStubError<Infallible, Full>>;

/// A debugger's visit to a guest.
pub struct Session<'a, M: Machine> {
    target: Target<M>,
    /// State of the protocol; `None` once the session has ended.
    stub: Option<Stub<'a, M>>,
    end: End,
}

impl<'a, M: Machine> Session<'a, M> {
    /// Returns a visit that has just begun. The guest stands still.
    pub fn new(machine: M, buffer: &'a mut [u8; BUFFER_BYTES]) -> Self {
        let mut target = Target::new(machine);
        let (packet, bytes) = buffer.split_at_mut(PACKET_BYTES);
        let answers = Answers { bytes, taken: 0, len: 0 };
        let stub = GdbStub::builder(answers).with_packet_buffer(packet).build();
        let stub = stub.ok().and_then(|stub| stub.run_state_machine(&mut target).ok());
        Self { target, stub, end: End::Protocol }
    }

    /// Returns the guest.
    pub fn machine(&mut self) -> &mut M {
        &mut self.target.machine
    }

    /// Ends the session, whatever its state, and returns the guest.
    pub fn into_machine(self) -> M {
        self.target.machine
    }

    /// Returns why the session has ended, if it has. There may still be [answers](Self::answers).
    pub fn end(&self) -> Option<End> {
        matches!(self.stub, None | Some(Stub::Disconnected(_))).then_some(self.end)
    }

    /// Returns whether gdb has let the guest go on, and waits for its [stop](Self::stopped).
    pub fn is_running(&self) -> bool {
        matches!(self.stub, Some(Stub::Running(_)))
    }

    /// Returns the bytes that wait to be sent to gdb.
    pub fn answers(&mut self) -> &[u8] {
        self.connection().map_or(&[], |answers| answers.waiting())
    }

    /// Notes that the first `count` bytes of [`Self::answers`] were sent.
    pub fn sent(&mut self, count: usize) {
        if let Some(answers) = self.connection() {
            answers.take(count);
        }
    }

    fn connection(&mut self) -> Option<&mut Answers<'a>> {
        Some(match self.stub.as_mut()? {
            Stub::Idle(stub) => stub.borrow_conn(),
            Stub::Running(stub) => stub.borrow_conn(),
            Stub::CtrlCInterrupt(stub) => stub.borrow_conn(),
            Stub::Disconnected(stub) => stub.borrow_conn(),
        })
    }

    /// Takes a byte that gdb has sent. The caller has sent all [answers](Self::answers) before, for
    /// which there may be no room otherwise.
    pub fn receive(&mut self, byte: u8) {
        let Some(stub) = self.stub.take() else { return };
        let target = &mut self.target;
        let next = match stub {
            Stub::Idle(stub) => stub.incoming_data(target, byte),
            Stub::Running(stub) => stub.incoming_data(target, byte),
            other => Ok(other),
        };
        self.go_to(next);
    }

    /// Tells gdb, which has let the guest go on, that it has stopped.
    pub fn stopped(&mut self, stop: Stop) {
        let next = match self.stub.take() {
            Some(Stub::Running(stub)) => stub.report_stop(&mut self.target, reason(stop)),
            Some(other) => Ok(other),
            None => return,
        };
        self.go_to(next);
    }

    /// Goes on with the state that a byte or a stop has led to.
    fn go_to(&mut self, next: Next<'a, M>) {
        let next = match next {
            Ok(Stub::CtrlCInterrupt(stub)) => {
                // The guest tells that it stands still once it does.
                self.target.machine.interrupt();
                let no_reason = None::<MultiThreadStopReason<u64>>;
                stub.interrupt_handled(&mut self.target, no_reason)
            }
            Ok(Stub::Running(stub)) if self.target.machine.limits().is_none() => {
                stub.report_stop(&mut self.target, reason(Stop::NeverRuns))
            }
            next => next,
        };
        match next {
            Ok(Stub::Disconnected(stub)) => {
                self.end = match stub.get_reason() {
                    DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_) => {
                        End::Ended
                    }
                    DisconnectReason::Disconnect | DisconnectReason::Kill => End::Left,
                };
                self.stub = Some(stub.into());
            }
            Ok(stub) => self.stub = Some(stub),
            Err(_) => self.end = End::Protocol,
        }
    }
}

/// Returns what gdb is told of a stop.
fn reason(stop: Stop) -> MultiThreadStopReason<u64> {
    let signal =
        |vcpu, signal| MultiThreadStopReason::SignalWithThread { tid: thread_of(vcpu), signal };
    match stop {
        Stop::Interrupted => signal(0, Signal::SIGINT),
        // After SIGTRAP, lldb would step again and again until the PC is another one.
        Stop::NeverRuns => signal(0, Signal::SIGSTOP),
        Stop::Stepped { vcpu } => signal(vcpu, Signal::SIGTRAP),
        Stop::Breakpoint { vcpu } => MultiThreadStopReason::HwBreak(thread_of(vcpu)),
        Stop::Watchpoint { vcpu, address, kind } => {
            let kind = match kind {
                Kind::Load => WatchKind::Read,
                Kind::Store => WatchKind::Write,
                Kind::Both => WatchKind::ReadWrite,
            };
            MultiThreadStopReason::Watch { tid: thread_of(vcpu), kind, addr: address }
        }
        Stop::Ended => MultiThreadStopReason::Exited(0),
        Stop::Died => MultiThreadStopReason::Terminated(Signal::SIGKILL),
    }
}
