//! A vCPU on this core: its loading, its entries, and what can be done to it while it is loaded.
//!
//! There are three steps. Each takes what the one before returned:
//!
//! | step | gives | what is true from then on |
//! |---|---|---|
//! | [`mmu::activate_stage2`](crate::mmu::activate_stage2), which is unsafe | [`Stage2Active`] | EL1 and EL0 of this core reach the guest's memory, and no other |
//! | [`Stage2Active::load`] | [`Loaded`] | this core's registers for EL1 and EL0 are the vCPU's |
//! | [`Loaded::enter`], again and again, until [`Loaded::unload`] | | the vCPU has run until an exit that its [`FirstLook`] has not answered |
//!
//! [`Loaded::enter`] switches the general registers alone. The rest of a vCPU stays in the hardware
//! from one exit to the next entry; [`Loaded`] reads and changes it there ([`live`]). `switch`
//! moves the system registers, as the records' tables say.

mod live;
mod look;
mod switch;

pub use live::Translations;
pub use look::{Class, FirstLook, Glimpse, Looked};
pub(crate) use look::{FIRST_CLASS, SERROR};

use crate::mmu::Stage2Active;
use crate::{cpu, debug, fp, timer};
use core::marker::PhantomData;
use look::{look_at, look_at_abort, look_at_interrupt};
use stasis_state::vcpu::{Core, Debug, FpSimd, Identity, SystemRegisters};

/// Reason why a guest came back to EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A synchronous exception, described by [`crate::cpu::syndrome`] and
    /// [`crate::cpu::fault_address`].
    Synchronous,
    /// A physical interrupt, of which the first look knows.
    Interrupt,
    /// A synchronous exception that the first look has answered.
    Answered,
    /// A physical SError.
    SError,
}

/// Records that a vCPU is loaded from. Its general registers are not among them: each entry loads
/// those.
pub struct Registers<'a> {
    /// Values that MIDR_EL1 and MPIDR_EL1 read as, and the CTR_EL0 that the guest is shown, which
    /// traps if the core's is another.
    pub identity: &'a Identity,
    /// The system registers, and the virtual timer.
    pub system: &'a SystemRegisters,
    /// The FP and SIMD registers.
    pub fp: &'a FpSimd,
    /// The debug registers.
    pub debug: &'a Debug,
}

/// State that a vCPU is loaded with besides its records.
pub struct Surroundings {
    /// CNTVOFF_EL2: how many ticks the guest's counter is behind the machine's.
    pub counter_offset: u64,
    /// Whether the vCPU's WFI traps, since others want the core: HCR_EL2.TWI.
    pub traps_waits: bool,
    /// Whether a virtual SError is pending for the vCPU: HCR_EL2.VSE.
    pub serror_pending: bool,
}

/// A vCPU that is loaded on this core: the only way to enter it.
///
/// A core has at most one at a time, and it can't be sent to another core. Dropping it without
/// [`unload`](Self::unload) loses what the vCPU did; no other vCPU gets any of that.
#[must_use]
pub struct Loaded {
    /// The owner of the debug registers: see [`debug`].
    debug: DebugOwner,
    /// Whether the vCPU's WFI traps.
    traps_waits: bool,
    /// Makes the type not [`Send`].
    this_core: PhantomData<*mut ()>,
}

/// Owner of the debug registers while a vCPU is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DebugOwner {
    /// Nobody: nothing is enabled in them, and the vCPU's accesses trap.
    Nobody,
    /// The vCPU, whose accesses do not trap.
    Vcpu,
    /// A debugger outside of the guest. The vCPU's accesses trap, and its debug exceptions come to
    /// EL2.
    Debugger,
}

impl Stage2Active {
    /// Loads a vCPU of the guest whose memory is active on this core. Loading the vCPU's GIC is up
    /// to the caller.
    #[inline]
    pub fn load(self, vcpu: Registers<'_>, surroundings: Surroundings) -> Loaded {
        let Surroundings { counter_offset, traps_waits, serror_pending } = surroundings;
        cpu::set_guest_identity(*vcpu.identity.midr_el1, *vcpu.identity.mpidr_el1);
        cpu::set_guest_controls(traps_waits, serror_pending, *vcpu.identity.ctr_el0);
        cpu::clear_deferred_serror();
        // SAFETY: 1. `self` is proof that the guest's stage 2 is active: `activate_stage2` made it,
        // for a vCPU of this guest. 2. Nothing was loaded since that would let stage 1 walk: the
        // calls above write EL2's registers alone, and `self` is used up.
        unsafe { switch::load_system(vcpu.system) };
        fp::load(vcpu.fp);
        timer::load_virtual(counter_offset, vcpu.system);
        let mut loaded = Loaded { debug: DebugOwner::Nobody, traps_waits, this_core: PhantomData };
        loaded.lend_debug_if_used(vcpu.debug);
        loaded
    }
}

impl Loaded {
    /// Runs the vCPU until an exit that `look` does not answer, and returns why it left. The
    /// [`Core`] of `vcpu` has its general registers, its PC and its PSTATE before and after.
    ///
    /// A PSTATE that is not a guest's never runs at EL2: its M\[3\] is cleared. If it is illegal
    /// even then, the result is EL2's fatal exception (DDI 0487, D1.4.4).
    #[inline(always)]
    pub fn enter<L: FirstLook>(look: &mut L, vcpu: &mut L::Vcpu) -> ExitKind {
        const LEAVE: u64 = Looked::Leave as u64;
        const INTERRUPT: u64 = Looked::Interrupt as u64;
        const ANSWERED: u64 = Looked::Answered as u64;
        let _: &mut Self = look.loaded();
        // SAFETY: a vCPU has its `Core` there, by the condition of `FirstLook`.
        let core: *mut Core = unsafe { core::ptr::from_mut(vcpu).byte_add(L::CORE).cast() };
        // SAFETY: `core` is part of the vCPU, which is borrowed mutably.
        debug_assert!(unsafe { *(*core).pstate } & 0b1100 <= 0b0100, "PSTATE is not a guest's");
        let kind: u64;
        // SAFETY: 1. All registers that the assembly does not restore are named as outputs or
        // clobbers, so the compiler keeps nothing in them. 2. It loads and stores at the offsets of
        // `Core`'s fields, in the vCPU, which is borrowed mutably for as long. 3. It calls the
        // functions of the look with `core`, which it does not access before they have returned,
        // and `look`, which is borrowed, too. 4. The guest reaches no memory but its own: what
        // `look` has as its proof came from `activate_stage2`, whose caller proves that of stage 2
        // and of the traps of `cpu::init`. 5. EL2 is built without FP, so it has no FP state that
        // the guest could change.
        unsafe {
            core::arch::asm!("bl stasis_enter_guest",
                inlateout("x0") core => kind,
                inlateout("x1") look as *mut L => _,
                inlateout("x2") look_at::<L> as unsafe extern "C" fn(_, _, _) -> _ => _,
                inlateout("x3") look_at_abort::<L> as unsafe extern "C" fn(_, _, _) -> _ => _,
                inlateout("x4") look_at_interrupt::<L> as unsafe extern "C" fn(_, _) -> _ => _,
                out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
                out("x25") _, out("x26") _, out("x27") _, out("x28") _, clobber_abi("C"));
        }
        match kind {
            LEAVE => ExitKind::Synchronous,
            INTERRUPT => ExitKind::Interrupt,
            ANSWERED => ExitKind::Answered,
            _ => ExitKind::SError,
        }
    }

    /// Makes the vCPU's WFI trap from now on, or not.
    #[inline]
    pub fn trap_waits(&mut self, traps_waits: bool) {
        if self.traps_waits != traps_waits {
            self.traps_waits = traps_waits;
            cpu::set_trap_of_waits(traps_waits);
        }
    }

    /// Saves the vCPU's system, FP and debug registers, stops the guest's virtual timer, and takes
    /// the debug registers back if they were lent.
    #[inline]
    pub fn unload(mut self, system: &mut SystemRegisters, fp: &mut FpSimd, debug: &mut Debug) {
        switch::save_system(system);
        timer::save_virtual(system);
        fp::save(fp);
        self.take_back_debug(debug);
    }

    /// Lends the vCPU its debug registers, if its record says that they do something in it. Called
    /// at its loading, and when it has opened its OS lock.
    #[inline]
    pub fn lend_debug_if_used(&mut self, registers: &Debug) {
        if debug::are_used(registers) {
            self.lend_debug(registers);
        }
    }

    /// Lends the vCPU its debug registers: its accesses to them do not trap any more. Returns
    /// whether that changed anything. It does not if the vCPU has them already, or if its OS lock
    /// is locked.
    #[inline]
    pub fn lend_debug(&mut self, registers: &Debug) -> bool {
        let lends = self.debug == DebugOwner::Nobody && *registers.os_lock == 0;
        if lends {
            // SAFETY: `self` is proof that a vCPU is loaded on this core.
            unsafe { debug::lend(registers) };
            self.debug = DebugOwner::Vcpu;
        }
        lends
    }

    /// Saves the debug registers and takes them back, if the vCPU has them. Its accesses to them
    /// trap from then on.
    #[inline]
    pub fn take_back_debug(&mut self, registers: &mut Debug) {
        if self.debug == DebugOwner::Vcpu {
            self.debug = DebugOwner::Nobody;
            debug::take_back(registers);
        }
    }

    /// Gives the debug registers to a debugger outside of the guest until the vCPU is unloaded.
    /// The registers get the values in `wanted`, of which the pairs and MDSCR_EL1.SS and MDE count.
    /// What the vCPU has of them goes into its own record, `registers`. Its debug exceptions, also
    /// those of BRK, end its entry from then on.
    #[cold]
    pub fn debug_from_outside(&mut self, registers: &mut Debug, wanted: &Debug) {
        self.take_back_debug(registers);
        // SAFETY: 1. `self` is proof that a vCPU is loaded on this core. 2. What it had of the
        // debug registers is in its record, for they were just taken back, or were not lent.
        unsafe { debug::take_for_debugger(wanted) };
        self.debug = DebugOwner::Debugger;
    }

    /// Returns whether a debugger outside of the guest has the debug registers: the vCPU's are in
    /// its record.
    pub fn is_debugged_from_outside(&self) -> bool {
        self.debug == DebugOwner::Debugger
    }
}

impl Drop for Loaded {
    #[inline]
    fn drop(&mut self) {
        if self.debug != DebugOwner::Nobody {
            debug::keep();
        }
    }
}
