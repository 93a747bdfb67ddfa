//! Exits that are answered before all registers of the vCPU are saved, and without a lock: calls
//! that do nothing, and reads of ID registers and of the time.

use super::first_look::{AtExit, Glimpse};
use stasis_arch::timer;
use stasis_arch::world::{Class, Looked};
use stasis_guest::exit::{SystemAccess, behind_aarch64};
use stasis_guest::register::set_general;
use stasis_guest::stats::Reason;
use stasis_guest::{psci, sysreg};

impl AtExit<'_> {
    /// Answers a call of the firmware that needs no other vCPU.
    #[inline(always)]
    pub(super) fn call(&self, mut glimpse: Glimpse<'_>, imm: u16, class: Class) -> Looked {
        if !psci::ask(&mut glimpse.vcpu.core, imm) {
            return Looked::Leave;
        }
        self.host.place.stats.left(Reason::Call);
        if class == Class::Smc {
            glimpse.move_pc(behind_aarch64);
        }
        Looked::GoOn
    }

    /// Answers a read of a register that depends on the vCPU and the time alone.
    #[inline(always)]
    pub(super) fn read(&self, mut glimpse: Glimpse<'_>, access: SystemAccess) -> Looked {
        if !access.is_read {
            return Looked::Leave;
        }
        if !glimpse.has(access.rt) {
            return Looked::Again;
        }
        let now = || timer::counter().wrapping_sub(self.host.offset());
        let Some(value) = sysreg::read_often(access.encoding, &glimpse.vcpu.identity, now) else {
            return Looked::Leave;
        };
        set_general(&mut glimpse.vcpu.core, access.rt, value);
        glimpse.move_pc(behind_aarch64);
        self.host.place.stats.left(Reason::Register);
        Looked::GoOn
    }
}
