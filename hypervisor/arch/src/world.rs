//! A vCPU on this core: loading it, entering it, and what can be done to it meanwhile.
//!
//! Three steps, each of which takes what the one before gave:
//!
//! | step | gives | what is true from then on |
//! |---|---|---|
//! | [`mmu::activate_stage2`](crate::mmu::activate_stage2), which is unsafe | [`Stage2Active`] | EL1 and EL0 of this core reach the guest's memory, and no other |
//! | [`Stage2Active::load`] | [`Loaded`] | this core's registers for EL1 and EL0 are the vCPU's |
//! | [`Loaded::enter`], again and again, until [`Loaded::unload`] | | the vCPU has run until its next exit |
//!
//! [`Loaded::enter`] switches the general registers alone. The rest of a vCPU stays in the hardware from one exit to the next entry;
//! [`Loaded`] reads and changes it there ([`live`]). `switch` moves the system registers, as the records' tables say.

mod live;
mod switch;

use crate::mmu::Stage2Active;
use crate::{cpu, debug, fp, timer};
use core::marker::PhantomData;
use stasis_state::vcpu::{Core, Debug, FpSimd, Identity, SystemRegisters};

/// Why a guest came back to EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A synchronous exception: see [`crate::cpu::syndrome`].
    Synchronous,
    /// A physical interrupt, which is still pending.
    Interrupt,
    /// A physical SError.
    SError,
}

/// The records that a vCPU is loaded from. Its general registers are loaded at each entry.
pub struct Registers<'a> {
    /// What MIDR_EL1 and MPIDR_EL1 read as, and whether CTR_EL0 must trap.
    pub identity: &'a Identity,
    /// The system registers, and the virtual timer.
    pub system: &'a SystemRegisters,
    /// The FP and SIMD registers.
    pub fp: &'a FpSimd,
    /// The debug registers.
    pub debug: &'a Debug,
}

/// What a vCPU is loaded with besides its records.
pub struct Surroundings {
    /// CNTVOFF_EL2: what the guest's counter is behind the machine's, in ticks.
    pub counter_offset: u64,
    /// Its WFI traps, since others want the core.
    pub traps_waits: bool,
    /// A virtual SError is pending for it.
    pub serror_pending: bool,
}

/// A vCPU that is loaded on this core: the only way to enter it.
///
/// There is one at a time on a core, and it can't be sent to another. Whoever drops it without [`unload`](Self::unload) loses what the vCPU did,
/// and no other vCPU has anything of it.
#[must_use]
pub struct Loaded {
    /// The debug registers are the vCPU's, and its accesses to them do not trap: see [`debug`].
    debug_is_lent: bool,
    /// Not [`Send`].
    this_core: PhantomData<*mut ()>,
}

impl Stage2Active {
    /// Loads a vCPU of the guest whose memory is active on this core. Its GIC is not loaded by it.
    #[inline]
    pub fn load(self, vcpu: Registers<'_>, surroundings: Surroundings) -> Loaded {
        let Surroundings { counter_offset, traps_waits, serror_pending } = surroundings;
        cpu::set_guest_identity(*vcpu.identity.midr_el1, *vcpu.identity.mpidr_el1);
        cpu::set_guest_controls(traps_waits, serror_pending, *vcpu.identity.ctr_el0);
        cpu::clear_deferred_serror();
        // SAFETY: `self` says that the guest's stage 2 is active, and that nothing was loaded since that would let stage 1 walk.
        unsafe { switch::load_system(vcpu.system) };
        fp::load(vcpu.fp);
        timer::load_virtual(counter_offset, vcpu.system);
        let mut loaded = Loaded { debug_is_lent: false, this_core: PhantomData };
        loaded.lend_debug_if_used(vcpu.debug);
        loaded
    }
}

impl Loaded {
    /// Runs the vCPU until its next exit, and returns why it left. `core` has its general registers, its PC and its PSTATE before
    /// and after.
    ///
    /// A PSTATE that is no guest's never runs at EL2: its M\[3\] is cleared, and what then is still illegal ends in EL2's fatal exception
    /// (DDI 0487, D1.4.4).
    #[inline(always)]
    pub fn enter(&mut self, core: &mut Core) -> ExitKind {
        debug_assert!(
            *core.pstate & 0b1100 <= 0b0100,
            "PSTATE {:#x} is not a guest's",
            *core.pstate
        );
        let kind: u64;
        // SAFETY: 1. What the assembly does not restore is named, and so kept by the compiler, which knows what of it is in use. 2. It
        // loads and stores at the offsets of `Core`'s fields, which is borrowed mutably for as long. 3. The guest reaches no memory
        // but its own: `self` came from `activate_stage2`, whose caller answers for stage 2 and for the traps of `cpu::init`.
        // 4. EL2 is built without FP, so it has no FP state that the guest could change.
        unsafe {
            core::arch::asm!("bl stasis_enter_guest", inlateout("x0") core as *mut Core => kind,
                out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
                out("x25") _, out("x26") _, out("x27") _, out("x28") _, clobber_abi("C"));
        }
        match kind {
            0 => ExitKind::Synchronous,
            1 => ExitKind::Interrupt,
            _ => ExitKind::SError,
        }
    }

    /// Saves what was loaded, stops the guest's virtual timer, and takes the debug registers back.
    #[inline]
    pub fn unload(mut self, system: &mut SystemRegisters, fp: &mut FpSimd, debug: &mut Debug) {
        switch::save_system(system);
        timer::save_virtual(system);
        fp::save(fp);
        self.take_back_debug(debug);
    }

    /// Lends the vCPU its debug registers, if its record says that they do something in it: at its loading, or when it has opened its OS
    /// lock.
    #[inline]
    pub fn lend_debug_if_used(&mut self, registers: &Debug) {
        if debug::are_used(registers) {
            self.lend_debug(registers);
        }
    }

    /// Lends the vCPU its debug registers: its accesses to them do not trap any more. Returns whether that changed anything: not if it
    /// has them already, or its OS lock is locked.
    #[inline]
    pub fn lend_debug(&mut self, registers: &Debug) -> bool {
        let lends = !self.debug_is_lent && *registers.os_lock == 0;
        if lends {
            debug::lend(registers);
            self.debug_is_lent = true;
        }
        lends
    }

    /// Takes the debug registers back, if the vCPU has them, and saves them. Its accesses to them trap from then on.
    #[inline]
    pub fn take_back_debug(&mut self, registers: &mut Debug) {
        if core::mem::take(&mut self.debug_is_lent) {
            debug::take_back(registers);
        }
    }
}

impl Drop for Loaded {
    #[inline]
    fn drop(&mut self) {
        if self.debug_is_lent {
            debug::keep();
        }
    }
}
