//! The answers to a guest's exits: what the hardware does not do for it. Loads and stores are in
//! [`accesses`].

mod accesses;

pub use accesses::{OfUart, OfVirtio, gicd_word, is_sgir, uart_access, virtio_access};

use stasis_state::device::SharedMemory;
use stasis_state::guest::{GuestPower, GuestPowerState};
use stasis_state::vcpu::PowerState;
use stasis_vgic::VcpuMask;

use super::{Guest, Host, Next, Vcpu};
use crate::exit::{self, Access, Exit, Fault, FaultKind, SystemAccess, Wfx};
use crate::inject;
use crate::outbox::{Errand, Report};
use crate::psci::{self, Action};
use crate::register::set_general;
use crate::stop::Crash;
use crate::sysreg;
use stasis_devices::list::{Kind, Target, lookup};
use stasis_memory::GuestMemory;

/// A vCPU that has left its guest by a synchronous exception, and the core that it stays loaded on.
pub struct Exited<'a, H> {
    /// Number of the vCPU among those of its guest.
    pub index: usize,
    /// The vCPU's own state.
    pub vcpu: &'a mut Vcpu,
    /// The core.
    pub host: &'a mut H,
    /// ESR_EL2 of the exception.
    pub esr: u64,
}

impl<H> Exited<'_, H> {
    /// Moves the vCPU's PC behind the instruction that was trapped.
    #[inline]
    fn skip_instruction(&mut self) {
        exit::skip_instruction(&mut self.vcpu.core, self.esr);
    }
}

/// A guest and its RAM, for whoever holds the lock of both.
pub trait Whole {
    /// The guest's RAM.
    type Ram: GuestMemory;

    /// Returns the state that the guest's vCPUs share, and its RAM.
    fn parts(&mut self) -> (&mut Guest, &mut Self::Ram);

    /// Answers a vCPU's `exit`. The vCPUs of `held` stand still with their list registers folded.
    /// Returns what comes next. What must be done outside of the guest is in the host's outbox.
    ///
    /// # Errors
    ///
    /// The vCPUs that must be held, too: then nothing was done yet, and the caller repeats the call
    /// while they are held.
    fn exit(
        &mut self,
        exited: &mut Exited<'_, impl Host>,
        exit: &Exit,
        held: VcpuMask,
    ) -> Result<Next, VcpuMask> {
        let (guest, ram) = self.parts();
        let Some((target, access)) = guest.target(exit) else {
            return Ok(guest.exit_of_cpu(exited, exit));
        };
        let next = match target.kind {
            Kind::Gicd | Kind::GiccDir => {
                guest.gic_access(exited, target, access, held)?;
                Next::Enter
            }
            _ => guest.device_access(exited, target, access, ram),
        };
        if let Some(writeback) = &access.writeback {
            writeback.apply(&mut exited.vcpu.core);
        }
        exited.skip_instruction();
        Ok(next)
    }
}

impl Guest {
    /// Returns the device or the part of the GIC that an exit reaches, and the access. None if it
    /// reaches nothing, or is no access.
    #[inline]
    fn target<'a>(&self, exit: &'a Exit) -> Option<(Target, &'a Access)> {
        let Exit::DataAbort { ipa, ref access, .. } = *exit else { return None };
        let target = lookup(ipa, access.width).filter(|target| self.devices.has(*target))?;
        let is_of_gic = matches!(target.kind, Kind::Gicd | Kind::GiccDir);
        // A pair is for devices: of the GIC, each half could need other vCPUs to be held.
        (access.second.is_none() || !is_of_gic).then_some((target, access))
    }

    /// Answers an exit that reaches neither a device nor the GIC.
    fn exit_of_cpu(&mut self, exited: &mut Exited<'_, impl Host>, exit: &Exit) -> Next {
        match *exit {
            Exit::Hvc { imm } => return self.firmware_call(exited, imm),
            Exit::Smc { imm } => {
                exited.skip_instruction();
                return self.firmware_call(exited, imm);
            }
            Exit::SystemRegister(access) => self.system_register(exited, access),
            Exit::DataAbort { ipa, virtual_address, ref access } => {
                let fault = Fault::nothing_at(ipa, virtual_address, access.write);
                return self.nothing_there(exited, &fault);
            }
            Exit::DataAbortUnemulatable(fault) | Exit::InstructionAbort(fault) => {
                return self.nothing_there(exited, &fault);
            }
            Exit::Wfx(Wfx::Wfi) => {
                exited.skip_instruction();
                return Next::Wait;
            }
            Exit::CacheMaintenance(fault) => match self.ram_not_found(&fault) {
                Some(address) => return Next::NoRam { address },
                // Nothing is behind the address, so nothing must be maintained.
                None => exited.skip_instruction(),
            },
            // WFE may end at once, and so may WFIT and WFET, which the guest's CPU does not have.
            Exit::Wfx(Wfx::Wfe | Wfx::Wfit | Wfx::Wfet) => {
                exited.skip_instruction();
            }
            Exit::Unknown { class } => {
                let Exited { vcpu, host, esr, .. } = exited;
                if self.unknown_exits.is_first(class.into()) {
                    let (esr, pc) = (*esr, *vcpu.core.pc);
                    host.outbox().errand = Some(Errand::Report(Report::Undefined { esr, pc }));
                }
                inject::undefined(&mut vcpu.core, host.el1());
            }
        }
        Next::Enter
    }

    /// Returns the guest-physical address of RAM, or of memory that the guest shares, at which a
    /// vCPU has found nothing: [`Next::NoRam`] says why that may be.
    fn ram_not_found(&self, fault: &Fault) -> Option<u64> {
        let is_memory = |ipa: &u64| {
            let within = |base: u64, size: u64| ipa.wrapping_sub(base) < size;
            let is_shared = |shared: &SharedMemory| {
                shared.base.iter().zip(shared.size.iter()).any(|(base, size)| within(*base, *size))
            };
            within(self.ram_base(), self.ram_size())
                || self.devices.shared.as_ref().is_some_and(is_shared)
        };
        fault.ipa.filter(|_| fault.kind == FaultKind::Translation).filter(is_memory)
    }

    /// Answers an access to an address at which the guest has nothing.
    fn nothing_there(&mut self, exited: &mut Exited<'_, impl Host>, fault: &Fault) -> Next {
        if let Some(address) = self.ram_not_found(fault) {
            return Next::NoRam { address };
        }
        let Exited { vcpu, host, .. } = exited;
        let address = fault.ipa.unwrap_or(fault.virtual_address);
        if self.unclaimed.report(address) {
            let (cause, pc) = (fault.cause, *vcpu.core.pc);
            let report = Report::NothingThere { cause, address, pc };
            host.outbox().errand = Some(Errand::Report(report));
        }
        let before = (*vcpu.core.pc, *vcpu.core.pstate);
        inject::external_abort(&mut vcpu.core, host.el1(), fault);
        // The first instruction of the handler has no effect but this same exception, which would
        // be taken for ever.
        match (*vcpu.core.pc, *vcpu.core.pstate) == before {
            true => Next::Crashed(Crash::ExceptionLoop { pc: before.0 }),
            false => Next::Enter,
        }
    }

    /// Answers a call of the firmware (PSCI, SMCCC).
    fn firmware_call(&mut self, exited: &mut Exited<'_, impl Host>, imm: u16) -> Next {
        let Exited { index, vcpu, host, .. } = exited;
        match psci::call(&mut vcpu.core, imm, *index, &mut self.powers[..]) {
            Action::Resume => Next::Enter,
            Action::Suspend => Next::Wait,
            Action::StartCpu { index } => {
                host.outbox().kick(VcpuMask::only(index));
                Next::Enter
            }
            Action::Off
                if self.powers.iter().any(|power| *power.state != PowerState::Off as u8) =>
            {
                Next::VcpuOff
            }
            // No record is needed: the power states of the vCPUs say that all are off.
            Action::Off => Next::Off,
            Action::SystemOff => {
                self.power = GuestPower::of(GuestPowerState::Off);
                Next::Off
            }
            Action::SystemReset => {
                self.power = GuestPower::of(GuestPowerState::Reset);
                Next::Reset
            }
        }
    }

    /// Answers an access to a system register that traps.
    fn system_register(&mut self, exited: &mut Exited<'_, impl Host>, access: SystemAccess) {
        let Exited { index, vcpu, host, .. } = exited;
        let now = self.clock.now(host.counter());
        let Vcpu { core, system, debug, identity, .. } = &mut **vcpu;
        let debug_is_kept = host.is_debugged();
        let mut vcpu_state =
            sysreg::TrapState { core, system, debug, debug_is_kept, identity, now };
        match sysreg::handle(access, &mut vcpu_state) {
            // Maintenance by set and way acts on this core's caches alone, as on any machine. A
            // vCPU stays on its core for its life, so nothing more is needed.
            sysreg::Outcome::Done | sysreg::Outcome::CleanAll => {}
            sysreg::Outcome::OsLock => host.os_lock_changed(&mut vcpu.debug),
            sysreg::Outcome::Cache { register, written } => {
                let value = host.cache(register, written);
                if written.is_none() {
                    set_general(&mut vcpu.core, access.rt, value);
                }
            }
            sysreg::Outcome::TimerChanged => {
                self.update_physical_timer(*index, vcpu, now);
                vcpu.deadline_changed = true;
            }
            sysreg::Outcome::Undefined { hidden } => {
                if !hidden && self.unknown_registers.is_first(access.encoding.into()) {
                    let (encoding, pc) = (access.encoding, *vcpu.core.pc);
                    host.outbox().errand =
                        Some(Errand::Report(Report::NoRegister { encoding, pc }));
                }
                return inject::undefined(&mut vcpu.core, host.el1());
            }
        }
        exited.skip_instruction();
    }
}
