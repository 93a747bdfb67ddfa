//! The first look at a call, an access to a system register, an abort, or an interrupt, before all
//! of the vCPU's registers are saved.
//!
//! Most of these exits can be answered by a few instructions, to which the saving of all registers
//! and the way back to the caller of [`Loaded::enter`](super::Loaded::enter) would add as many
//! again. So the vectors save what a function may change, and call [`FirstLook::look`]. Its
//! [`Glimpse`] is the vCPU as far as it is saved.

use super::Loaded;
use super::live::Translations;
use aarch64_cpu::registers::{ELR_EL2, Readable, SCTLR_EL1, SPSR_EL2, Writeable};
use core::marker::PhantomData;
use stasis_state::vcpu::Core;

/// What the vectors do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Looked {
    /// The vCPU leaves, and [`Loaded::enter`](super::Loaded::enter) returns. Nothing was done.
    Leave = 0,
    /// The exit is answered, and the vCPU goes on.
    GoOn = 1,
    /// Nothing was done. Of a system register or an abort, and not of an interrupt: the vectors
    /// save the other general registers, too, and look again.
    Again = 2,
    /// The exit is answered, and the vCPU leaves nevertheless.
    Answered = 3,
    /// The vCPU leaves for an interrupt, of which the [`FirstLook`] knows.
    Interrupt = 5,
}

/// Kind of an exit by an SError, which is none of what a look says.
pub(crate) const SERROR: u64 = 7;

/// The class of an exit that is looked at first. The first three are ESR_EL2.EC, of which the
/// vectors take away [`FIRST_CLASS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Class {
    /// HVC, of AArch64.
    Hvc = 0,
    /// SMC, of AArch64.
    Smc = 1,
    /// MSR, MRS or a system instruction, of AArch64.
    SystemRegister = 2,
    /// The class of the same exit when it is looked at again, and all general registers are saved.
    SystemRegisterAgain = 3,
    /// Another exception whose ESR_EL2.EC is 0x20 or above: an abort, or one of debugging.
    Abort = 4,
    /// The class of the same exit when it is looked at again, and all general registers are saved.
    AbortAgain = 5,
}

/// ESR_EL2.EC of [`Class::Hvc`], DDI 0487, D24.2.40.
pub(crate) const FIRST_CLASS: u64 = 0x16;

/// Answers to exits that need little of a vCPU.
///
/// # Safety
///
/// There is a [`Core`] in each [`Vcpu`](Self::Vcpu), [`CORE`](Self::CORE) bytes behind its start.
pub unsafe trait FirstLook {
    /// The vCPU: its general registers, and what else of it the looks are about.
    type Vcpu;

    /// Distance of the [`Core`] from the start of the vCPU, in bytes.
    const CORE: usize;

    /// Returns the proof that a vCPU is loaded on this core: the one that is entered.
    fn loaded(&mut self) -> &mut Loaded;

    /// Looks at a call or an access to a system register, which [`crate::cpu::syndrome`] describes,
    /// and says what happens next. When the vectors look again, the answer is another one.
    fn look(&mut self, class: Class, glimpse: Glimpse<'_, Self::Vcpu>) -> Looked;

    /// Looks at an exit of [`Class::Abort`], as [`Self::look`] does.
    fn look_at_abort(&mut self, glimpse: Glimpse<'_, Self::Vcpu>) -> Looked;

    /// Looks at a physical interrupt, which is pending. X20 to X28 are not in the record.
    fn look_at_interrupt(&mut self, glimpse: Glimpse<'_, Self::Vcpu>) -> Looked;
}

/// A loaded vCPU at an exit, of whose [`Core`] the PC and PSTATE are old, and X20 to X28 may be:
/// the CPU has them. What is written to its other general registers counts.
pub struct Glimpse<'a, V> {
    /// The vCPU.
    pub vcpu: &'a mut V,
    /// Whether all general registers are in the record.
    is_whole: bool,
}

impl<V> Glimpse<'_, V> {
    /// Returns whether a general register is in the record. 31 is XZR.
    #[inline(always)]
    pub fn has(&self, register: u8) -> bool {
        !(20..29).contains(&register) || self.is_whole
    }

    /// Returns the vCPU's PSTATE.
    #[inline(always)]
    pub fn pstate(&self) -> u64 {
        SPSR_EL2.get()
    }

    /// Returns the translations of the vCPU.
    #[inline(always)]
    pub fn translations(&mut self) -> Translations<'_> {
        Translations(PhantomData)
    }

    /// Returns the vCPU's SCTLR_EL1.
    #[inline(always)]
    pub fn sctlr_el1(&self) -> u64 {
        SCTLR_EL1.get()
    }

    /// Makes the vCPU go on with the PC and PSTATE that `to` returns of those that it has.
    #[inline(always)]
    pub fn move_pc(&mut self, to: impl FnOnce(u64, u64) -> (u64, u64)) {
        let (pc, pstate) = to(ELR_EL2.get(), SPSR_EL2.get());
        ELR_EL2.set(pc);
        // M[3] clear: EL1 or EL0, as at any entry.
        SPSR_EL2.set(pstate & !(1 << 3));
    }
}

/// Returns the vCPU that a [`Core`] is part of.
///
/// # Safety
///
/// 1. `core` was made by [`Loaded::enter`] of the vCPU that it has borrowed.
/// 2. Nobody else uses the vCPU while the result lives.
#[inline(always)]
unsafe fn vcpu_of<'a, L: FirstLook>(core: *mut Core) -> &'a mut L::Vcpu {
    // SAFETY: 1. `enter` has added as many bytes to the vCPU's address, by condition 1, so this is
    // that address. 2. The vCPU is borrowed mutably for as long, and nobody else uses it, by
    // condition 2. 3. Any value of a record's fields is valid.
    unsafe { &mut *core.byte_sub(L::CORE).cast() }
}

/// Looks at a call or an access to a system register. Returns what the vectors do then.
///
/// # Safety
///
/// 1. `look` and `core` point to what [`Loaded::enter`] has borrowed, and nobody else uses these.
/// 2. The vectors have saved X0 to X19, X29 and X30 to `core`; and all others if `class` is
///    [`Class::SystemRegisterAgain`].
pub(super) unsafe extern "C" fn look_at<L: FirstLook>(
    look: *mut L,
    core: *mut Core,
    class: Class,
) -> Looked {
    // SAFETY: they came from references that `enter` has, and nobody else uses them, by condition
    // 1.
    let (look, vcpu) = unsafe { (&mut *look, vcpu_of::<L>(core)) };
    look.look(class, Glimpse { vcpu, is_whole: class == Class::SystemRegisterAgain })
}

/// Looks at an exit that may be an access to a device, or a write that stage 2 forbids. Returns
/// what the vectors do then.
///
/// # Safety
///
/// The conditions of [`look_at`], but for the class of the second look, which is
/// [`Class::AbortAgain`].
pub(super) unsafe extern "C" fn look_at_abort<L: FirstLook>(
    look: *mut L,
    core: *mut Core,
    class: Class,
) -> Looked {
    // SAFETY: they came from references that `enter` has, and nobody else uses them, by condition
    // 1.
    let (look, vcpu) = unsafe { (&mut *look, vcpu_of::<L>(core)) };
    look.look_at_abort(Glimpse { vcpu, is_whole: class == Class::AbortAgain })
}

/// Looks at an interrupt. Returns what the vectors do then.
///
/// # Safety
///
/// The conditions of [`look_at`]. There is no second look.
pub(super) unsafe extern "C" fn look_at_interrupt<L: FirstLook>(
    look: *mut L,
    core: *mut Core,
) -> Looked {
    // SAFETY: they came from references that `enter` has, and nobody else uses them, by condition
    // 1.
    let (look, vcpu) = unsafe { (&mut *look, vcpu_of::<L>(core)) };
    look.look_at_interrupt(Glimpse { vcpu, is_whole: false })
}
