//! Exits that are answered before all registers of the vCPU are saved, and without a lock: calls that do nothing, and reads of ID registers and
//! of the time.
//!
//! [`WithoutLock`] is the first look of the vectors at an exit. What it does not answer is left to [`super::run`].

use stasis_arch::world::{Class, FirstLook, Glimpse, Looked};
use stasis_arch::{cpu, timer};
use stasis_guest::exit::{self, SystemAccess, behind_aarch64};
use stasis_guest::register::set_general;
use stasis_guest::stats::{Reason, Stats};
use stasis_guest::{psci, sysreg};
use stasis_state::vcpu::Identity;

/// A loaded vCPU, as far as exits are about it that are answered without a lock.
pub(super) struct WithoutLock<'a> {
    pub stats: &'a Stats,
    pub identity: &'a Identity,
    /// CNTVOFF_EL2, in ticks.
    pub offset: u64,
}

impl FirstLook for WithoutLock<'_> {
    #[inline(always)]
    fn look(&mut self, class: Class, vcpu: Glimpse<'_>) -> Looked {
        match class {
            Class::SystemRegister | Class::SystemRegisterAgain => {
                self.read(vcpu, SystemAccess::decode(cpu::syndrome()))
            }
            Class::Hvc | Class::Smc => self.call(vcpu, exit::immediate(cpu::syndrome()), class),
        }
    }
}

impl WithoutLock<'_> {
    /// Answers a call of the firmware that needs no other vCPU.
    #[inline(always)]
    fn call(&self, mut vcpu: Glimpse<'_>, imm: u16, class: Class) -> Looked {
        if !psci::ask(vcpu.core, imm) {
            return Looked::Leave;
        }
        self.stats.left(Reason::Call);
        if class == Class::Smc {
            vcpu.move_pc(behind_aarch64);
        }
        Looked::GoOn
    }

    /// Answers a read of a register that depends on the vCPU and the time alone.
    #[inline(always)]
    fn read(&self, mut vcpu: Glimpse<'_>, access: SystemAccess) -> Looked {
        if !access.is_read {
            return Looked::Leave;
        }
        if !vcpu.has(access.rt) {
            return Looked::Again;
        }
        let now = || timer::counter().wrapping_sub(self.offset);
        let Some(value) = sysreg::read_often(access.encoding, self.identity, now) else {
            return Looked::Leave;
        };
        set_general(vcpu.core, access.rt, value);
        vcpu.move_pc(behind_aarch64);
        self.stats.left(Reason::Register);
        Looked::GoOn
    }
}
