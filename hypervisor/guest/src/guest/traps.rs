//! The answers to a guest's exits: what the hardware does not do for it.

use stasis_state::guest::{GuestPower, GuestPowerState};
use stasis_state::vcpu::{Core, PowerState};
use stasis_vgic::VcpuMask;

use super::outside::Around;
use super::{Guest, Host, Next, Vcpu};
use crate::exit::{self, Access, Exit, Fault, FaultKind, Syndrome, SystemAccess, Wfx, WordAccess};
use crate::inject::{self, El1Registers};
use crate::outbox::{Errand, Report};
use crate::psci::{self, Action};
use crate::register::{general, is_big_endian, set_general};
use crate::stop::Crash;
use crate::sysreg;
use stasis_devices::access::Width;
use stasis_devices::device::{Effects, Outside};
use stasis_devices::list::{Kind, Target, lookup};
use stasis_devices::machine::{GICD_BASE, GICD_REGISTERS};
use stasis_memory::GuestMemory;

/// Offset of GICC_DIR in its page, IHI 0048B.b 4.4.18.
const GICC_DIR: u64 = 0;

impl Vcpu {
    /// Answers a call that is about this vCPU's own registers alone, and leaves nothing to do before the next entry. So it needs no lock of what the
    /// vCPUs share. Returns `false` if the exit is another one: then nothing was done, and [`Whole::exit`] must answer.
    #[inline]
    pub fn call_alone(&mut self, syndrome: Syndrome) -> bool {
        exit::hypervisor_call(syndrome).is_some_and(|imm| psci::ask(&mut self.core, imm))
    }

    /// Answers a read of a register that depends on this vCPU and the time alone, as [`Self::call_alone`] does a call. `now` returns CNTVCT of the
    /// guest, in ticks.
    #[inline]
    pub fn read_alone(&mut self, syndrome: Syndrome, now: impl FnOnce() -> u64) -> bool {
        let Some(access) = SystemAccess::of(syndrome).filter(|access| access.is_read) else {
            return false;
        };
        let Some(value) = sysreg::read_alone(access.encoding, &self.identity, now) else {
            return false;
        };
        set_general(&mut self.core, access.rt, value);
        exit::skip_instruction(&mut self.core, syndrome.esr);
        true
    }
}

/// Returns whether a word is in the distributor. Only then can [`Guest::answer_at_once`] answer the access. No lock is needed.
#[inline(always)]
pub fn is_in_distributor(word: WordAccess) -> bool {
    word.ipa.wrapping_sub(GICD_BASE) < GICD_REGISTERS
}

/// A guest and its RAM, for whoever holds the lock of both.
pub trait Whole {
    /// The guest's RAM.
    type Ram: GuestMemory;

    /// Returns the state that the guest's vCPUs share, and its RAM.
    fn parts(&mut self) -> (&mut Guest, &mut Self::Ram);

    /// Answers a synchronous exception of vCPU `index`, which is loaded on `host`. The vCPUs of `held` stand still with their list registers folded.
    /// Returns what comes next. What must be done outside of the guest is in the host's outbox.
    ///
    /// # Errors
    ///
    /// The vCPUs that must be held, too: then nothing was done yet, and the caller repeats the call while they are held.
    fn exit(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        exit: &Exit,
        esr: u64,
        held: VcpuMask,
        host: &mut impl Host,
    ) -> Result<Next, VcpuMask> {
        let (guest, ram) = self.parts();
        let Some((target, access)) = guest.target(exit) else {
            return Ok(guest.exit_of_cpu(index, vcpu, exit, esr, host));
        };
        let next = match target.kind {
            Kind::Gicd | Kind::GiccDir => {
                guest.gic_access(index, vcpu, target, access, held, host)?;
                Next::Enter
            }
            _ => guest.device_access(index, vcpu, target, access, host, ram),
        };
        if let Some(writeback) = &access.writeback {
            writeback.apply(&mut vcpu.core);
        }
        exit::skip_instruction(&mut vcpu.core, esr);
        Ok(next)
    }
}

impl Guest {
    /// Returns the device or the part of the GIC that an exit reaches, and the access. None if it reaches nothing, or is no access.
    #[inline]
    fn target<'a>(&self, exit: &'a Exit) -> Option<(Target, &'a Access)> {
        let Exit::DataAbort { ipa, ref access, .. } = *exit else { return None };
        let target = lookup(ipa, access.width).filter(|target| self.devices.has(*target))?;
        Some((target, access))
    }

    /// Answers an access to a word of the distributor that depends on the records alone, whatever is in list registers. Returns the vCPUs whose
    /// offered interrupts may have changed by a store: vCPU `index` passes through `Vgic::enter` before its next entry, and the others must be
    /// kicked.
    ///
    /// Returns None if the access is another one: then nothing was done, and [`Whole::exit`] must answer.
    pub fn answer_at_once(
        &mut self,
        index: usize,
        core: &mut Core,
        word: WordAccess,
        esr: u64,
        sctlr_el1: u64,
    ) -> Option<VcpuMask> {
        let offset = word.ipa.wrapping_sub(GICD_BASE);
        let access = gicd_access(offset, Width::Word).ok()?;
        if is_big_endian(core, sctlr_el1) {
            return None;
        }
        let mut kick = VcpuMask::NONE;
        if word.write {
            let value = general(core, word.register) as u32;
            kick = self.vgic.record(index, access, value)?.kick;
        } else {
            set_general(core, word.register, self.vgic.recorded(index, access)?);
        }
        exit::skip_instruction(core, esr);
        Some(kick)
    }

    /// Answers an exit that reaches neither a device nor the GIC. The vCPU `index` is loaded on `host`.
    fn exit_of_cpu(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        exit: &Exit,
        esr: u64,
        host: &mut impl Host,
    ) -> Next {
        match *exit {
            Exit::Hvc { imm } => return self.firmware_call(index, vcpu, imm, host),
            Exit::Smc { imm } => {
                exit::skip_instruction(&mut vcpu.core, esr);
                return self.firmware_call(index, vcpu, imm, host);
            }
            Exit::SystemRegister(access) => self.system_register(index, vcpu, access, esr, host),
            Exit::DataAbort { ipa, virtual_address, ref access } => {
                let fault = Fault::nothing_at(ipa, virtual_address, access.write);
                return self.nothing_there(vcpu, &fault, host);
            }
            Exit::DataAbortUnemulatable(fault) | Exit::InstructionAbort(fault) => {
                return self.nothing_there(vcpu, &fault, host);
            }
            Exit::Wfx(Wfx::Wfi) => {
                exit::skip_instruction(&mut vcpu.core, esr);
                return Next::Wait;
            }
            Exit::CacheMaintenance(fault) if self.is_ram_in_change(&fault) => {}
            // Nothing is behind the address, so nothing must be maintained. WFE may end at once, and so may WFIT and WFET, which the guest's CPU does
            // not have.
            Exit::CacheMaintenance(_) | Exit::Wfx(Wfx::Wfe | Wfx::Wfit | Wfx::Wfet) => {
                exit::skip_instruction(&mut vcpu.core, esr);
            }
            Exit::Unknown { class } => {
                if self.unknown_exits.is_first(class.into()) {
                    let pc = *vcpu.core.pc;
                    host.outbox().errand = Some(Errand::Report(Report::Undefined { esr, pc }));
                }
                inject::undefined(&mut vcpu.core, host.el1());
            }
        }
        Next::Enter
    }

    /// Answers a load or store that reaches the GIC. An error has the vCPUs that must be held first; then nothing was done.
    fn gic_access(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        target: Target,
        access: &Access,
        held: VcpuMask,
        host: &mut impl Host,
    ) -> Result<(), VcpuMask> {
        let sctlr = host.el1().sctlr_el1();
        if access.write {
            let value = access.in_device_order(&vcpu.core, sctlr, access.stored(&vcpu.core));
            return self.gic_write(index, target, value, held, host);
        }
        let value = self.gic_read(index, target, held, host)?;
        let value = access.in_device_order(&vcpu.core, sctlr, value);
        access.load(&mut vcpu.core, value);
        Ok(())
    }

    /// Answers a load or store that reaches a device, which may access the guest's `ram`.
    fn device_access(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        target: Target,
        access: &Access,
        host: &mut impl Host,
        ram: &mut impl GuestMemory,
    ) -> Next {
        let sctlr = host.el1().sctlr_el1();
        if access.write {
            let value = access.in_device_order(&vcpu.core, sctlr, access.stored(&vcpu.core));
            return self.device_write(index, vcpu, target, value, host, ram);
        }
        let value = self.device_read(index, target, host, ram);
        let value = access.in_device_order(&vcpu.core, sctlr, value);
        access.load(&mut vcpu.core, value);
        Next::Enter
    }

    /// Reads from the distributor. GICC_DIR reads as 0. An error has the vCPUs that must be held first.
    fn gic_read(
        &mut self,
        index: usize,
        target: Target,
        held: VcpuMask,
        host: &mut impl Host,
    ) -> Result<u64, VcpuMask> {
        let (Kind::Gicd, Ok(gicd)) =
            (target.kind, gicd_access(target.access.offset, target.access.width))
        else {
            return Ok(0);
        };
        all_held(self.vgic.needs_sync(index, gicd, false), held)?;
        let (value, effects) = self.vgic.distributor_read(index, gicd, host.gic());
        host.outbox().kick(effects.kick.without(index));
        Ok(value)
    }

    /// Writes to the distributor, or to GICC_DIR, which is alone in its page. An error has the vCPUs that must be held first.
    fn gic_write(
        &mut self,
        index: usize,
        target: Target,
        value: u64,
        held: VcpuMask,
        host: &mut impl Host,
    ) -> Result<(), VcpuMask> {
        let (offset, width) = (target.access.offset, target.access.width);
        let effects = match target.kind {
            Kind::Gicd => {
                let Ok(gicd) = gicd_access(offset, width) else { return Ok(()) };
                all_held(self.vgic.needs_sync(index, gicd, true), held)?;
                self.vgic.distributor_write(index, gicd, value, host.gic())
            }
            _ if offset == GICC_DIR => {
                all_held(self.vgic.deactivate_needs_sync(index, value as u32), held)?;
                self.vgic.deactivate(index, value as u32, host.gic())
            }
            _ => return Ok(()),
        };
        host.outbox().kick(effects.kick.without(index));
        Ok(())
    }

    fn device_read(
        &mut self,
        index: usize,
        target: Target,
        host: &mut impl Host,
        ram: &mut impl GuestMemory,
    ) -> u64 {
        let mut around = Around { record: &self.record, clock: &self.clock, host, ram };
        let (value, line) = self.devices.read(target, &mut around);
        let kick = self.update_line(line);
        host.outbox().kick(kick.without(index));
        value
    }

    fn device_write(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        target: Target,
        value: u64,
        host: &mut impl Host,
        ram: &mut impl GuestMemory,
    ) -> Next {
        let mut around = Around { record: &self.record, clock: &self.clock, host, ram };
        let (Effects { outside, due_changed }, line) =
            self.devices.write(target, value, &mut around);
        vcpu.deadline_changed |= due_changed;
        let kick = self.update_line(line);
        let outbox = host.outbox();
        outbox.kick(kick.without(index));
        match outside {
            None => {}
            Some(Outside::Transmit(byte)) => outbox.errand = Some(Errand::Send(byte)),
            Some(Outside::Ring(peer)) => {
                outbox.errand = Some(Errand::Ring { region: target.access.n, peer });
            }
            Some(Outside::Crash(why)) => return Next::Crashed(Crash::Device(why)),
        }
        Next::Enter
    }

    /// Returns whether a vCPU has found no RAM where there is some: another vCPU's first write was changing the entry of stage 2. Then the access is made
    /// again.
    fn is_ram_in_change(&self, fault: &Fault) -> bool {
        let is_ram = |ipa: u64| ipa.wrapping_sub(self.ram_base()) < self.ram_size();
        fault.kind == FaultKind::Translation && fault.ipa.is_some_and(is_ram)
    }

    fn nothing_there(&mut self, vcpu: &mut Vcpu, fault: &Fault, host: &mut impl Host) -> Next {
        if self.is_ram_in_change(fault) {
            return Next::Enter;
        }
        let address = fault.ipa.unwrap_or(fault.virtual_address);
        if self.unclaimed.report(address) {
            let (cause, pc) = (fault.cause, *vcpu.core.pc);
            let report = Report::NothingThere { cause, address, pc };
            host.outbox().errand = Some(Errand::Report(report));
        }
        let before = (*vcpu.core.pc, *vcpu.core.pstate);
        inject::external_abort(&mut vcpu.core, host.el1(), fault);
        // The first instruction of the handler has no effect but this same exception, which would be taken for ever.
        match (*vcpu.core.pc, *vcpu.core.pstate) == before {
            true => Next::Crashed(Crash::ExceptionLoop { pc: before.0 }),
            false => Next::Enter,
        }
    }

    fn firmware_call(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        imm: u16,
        host: &mut impl Host,
    ) -> Next {
        match psci::call(&mut vcpu.core, imm, index, &mut self.powers[..]) {
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

    fn system_register(
        &mut self,
        index: usize,
        vcpu: &mut Vcpu,
        access: SystemAccess,
        esr: u64,
        host: &mut impl Host,
    ) {
        let now = self.clock.now(host.counter());
        let Vcpu { core, system, debug, identity, .. } = vcpu;
        match sysreg::handle(access, &mut sysreg::Vcpu { core, system, debug, identity, now }) {
            // Maintenance by set and way acts on this core's caches alone, as on any machine. A vCPU stays on its core for its life, so nothing more
            // is needed.
            sysreg::Outcome::Done | sysreg::Outcome::CleanAll => {}
            sysreg::Outcome::OsLock => host.os_lock_changed(&mut vcpu.debug),
            sysreg::Outcome::Cache { register, written } => {
                let value = host.cache(register, written);
                if written.is_none() {
                    set_general(&mut vcpu.core, access.rt, value);
                }
            }
            sysreg::Outcome::TimerChanged => {
                self.update_physical_timer(index, vcpu, now);
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
        exit::skip_instruction(&mut vcpu.core, esr);
    }
}

/// Returns an error with those of `needed` that are not held yet, if there are any.
fn all_held(needed: VcpuMask, held: VcpuMask) -> Result<(), VcpuMask> {
    let missing = VcpuMask(needed.0 & !held.0);
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

#[inline]
fn gicd_access(offset: u64, width: Width) -> Result<stasis_vgic::Access, stasis_vgic::Error> {
    stasis_vgic::Access::checked(offset, width as u8)
}
