//! [`Vcpu`]: a vCPU of KVM's, and its thread: [`Vcpu::run`] enters the guest, and answers why it came out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_vcpu_events};
use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::errno::Errno;

use crate::board::Answer;
use crate::control::Ended;
use crate::registers::Known;
use crate::shared::Shared;

/// KVM_EXIT_ARM_NISV: an access where nothing is, by an instruction that the hardware does not
/// describe.
const EXIT_ARM_NISV: u32 = 28;

/// A vCPU.
pub struct Vcpu {
    fd: Mutex<VcpuFd>,
    /// What KVM has of it.
    pub known: Known,
}

/// What must be done after an exit.
enum Next {
    Enter,
    /// The access that came out has nothing behind it.
    Abort,
    End(Ended),
}

impl Vcpu {
    /// Returns a vCPU of which KVM has what `known` says.
    pub fn new(fd: VcpuFd, known: Known) -> Self {
        Self { fd: Mutex::new(fd), known }
    }

    /// Returns the vCPU. Waits for its thread, which has it while the guest runs.
    pub fn lock(&self) -> MutexGuard<'_, VcpuFd> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the guest for ever, but for the times in which all vCPUs stand still.
    pub fn run(&self, shared: &Shared) {
        loop {
            let mut fd = self.lock();
            while !shared.control.must_stand() {
                match step(&mut fd, shared) {
                    Ok(None) => {}
                    Ok(Some(how)) => shared.control.end(how),
                    Err(error) => shared.control.end(Ended::Failed(format!("{error:#}"))),
                }
            }
            if let Err(error) = complete(&mut fd) {
                shared.control.end(Ended::Failed(format!("{error:#}")));
            }
            drop(fd);
            shared.control.stand();
        }
    }
}

/// Enters the guest once. Returns how it has ended, if it has.
fn step(fd: &mut VcpuFd, shared: &Shared) -> Result<Option<Ended>> {
    let next = match fd.run() {
        Ok(exit) => answer(exit, shared)?,
        Err(error) if is_interrupted(error.errno()) => Next::Enter,
        Err(error) => return Err(error).context("KVM can't run the guest"),
    };
    match next {
        Next::Enter => {}
        Next::Abort => {
            let mut events = kvm_vcpu_events::default();
            events.exception.ext_dabt_pending = 1;
            fd.set_vcpu_events(&events).context("KVM does not make an abort of an access")?;
        }
        Next::End(how) => return Ok(Some(how)),
    }
    Ok(None)
}

fn answer(exit: VcpuExit<'_>, shared: &Shared) -> Result<Next> {
    let answer = match exit {
        VcpuExit::MmioRead(address, data) => {
            shared.board().read(address, data, &mut shared.moment())
        }
        VcpuExit::MmioWrite(address, data) => {
            shared.board().write(address, data, &mut shared.moment())
        }
        VcpuExit::Intr => return Ok(Next::Enter),
        VcpuExit::Unsupported(EXIT_ARM_NISV) => Answer::Nothing,
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => return Ok(Next::End(Ended::Off)),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _) => return Ok(Next::End(Ended::Reset)),
        other => bail!("the guest has come out of KVM with {other:?}"),
    };
    Ok(match answer {
        Answer::Done => Next::Enter,
        Answer::DueChanged => {
            shared.control.tell();
            Next::Enter
        }
        Answer::Nothing => Next::Abort,
    })
}

/// Ends what an exit has begun: the value of a load that a device has answered comes to its
/// register, and the PC behind the instruction, at the next entry only.
fn complete(fd: &mut VcpuFd) -> Result<()> {
    fd.set_kvm_immediate_exit(1);
    let entered = fd.run().map(drop);
    fd.set_kvm_immediate_exit(0);
    match entered {
        Err(error) if is_interrupted(error.errno()) => Ok(()),
        Err(error) => Err(error).context("KVM can't end an access"),
        Ok(()) => bail!("KVM has run the guest, which should stand"),
    }
}

fn is_interrupted(errno: i32) -> bool {
    matches!(Errno::from_raw(errno), Errno::EINTR | Errno::EAGAIN)
}
