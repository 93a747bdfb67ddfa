//! Exits that are answered before all registers of the vCPU are saved, and without a lock: calls
//! that do nothing, and reads of ID registers and of the time.

use super::first_look::AtExit;
use stasis_arch::timer;
use stasis_arch::world::{Class, Glimpse, Looked};
use stasis_guest::exit::{SystemAccess, behind_aarch64};
use stasis_guest::register::set_general;
use stasis_guest::stats::Reason;
use stasis_guest::{psci, sysreg};

impl AtExit<'_, '_> {
    /// Answers a call of the firmware that needs no other vCPU.
    #[inline(always)]
    pub(super) fn call(&self, mut vcpu: Glimpse<'_>, imm: u16, class: Class) -> Looked {
        if !psci::ask(vcpu.core, imm) {
            return Looked::Leave;
        }
        self.place.stats.left(Reason::Call);
        if class == Class::Smc {
            vcpu.move_pc(behind_aarch64);
        }
        Looked::GoOn
    }

    /// Answers a read of a register that depends on the vCPU and the time alone.
    #[inline(always)]
    pub(super) fn read(&self, mut vcpu: Glimpse<'_>, access: SystemAccess) -> Looked {
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
        self.place.stats.left(Reason::Register);
        Looked::GoOn
    }
}
