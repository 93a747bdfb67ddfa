//! The translations of EL2 and of a guest's stage 2: what replaces them and what drops copies of
//! them, each with its barriers (DDI 0487, D8.14 to D8.16).

use crate::boot;
use core::arch::asm;
use core::marker::PhantomData;

/// Replaces EL2's translation by the one at `root`. The MMU is off in between: the two may differ
/// in the size of their blocks, and no core may ever see both sizes at once.
///
/// # Safety
///
/// 1. `root` is a 39-bit translation with 4 KiB pages that maps all that this program uses, with
///    the access that it needs, and it stays for ever.
/// 2. This translation and the one that it replaces are one to one.
pub unsafe fn install(root: u64) {
    // SAFETY: 1. Between the writes to SCTLR_EL2 no memory is accessed but these instructions,
    // which have the same address with and without the MMU, by condition 2. 2. Dirty lines stay in
    // the caches, where later accesses find them. 3. After the writes all that the program uses is
    // mapped as it needs it, by condition 1.
    unsafe {
        asm!(
            "dsb sy",
            "msr sctlr_el2, {off}",
            "isb",
            "msr ttbr0_el2, {root}",
            "tlbi alle2",
            "dsb sy",
            "isb",
            "msr sctlr_el2, {on}",
            "isb",
            off = in(reg) boot::SCTLR_OFF,
            on = in(reg) boot::SCTLR,
            root = in(reg) root,
            options(nostack, preserves_flags),
        );
    }
}

/// Writes VTCR_EL2 of this core, once: 39-bit guest-physical addresses from level 1, 4 KiB granule,
/// write-back inner-shareable walks, 8-bit VMIDs; physical addresses as long as EL2's own.
///
/// # Safety
///
/// No [`Stage2Active`] and no [`Loaded`](crate::world::Loaded) of this core is alive.
pub(crate) unsafe fn init_stage2() {
    const RES1: u64 = 1 << 31;
    const SL0_LEVEL1: u64 = 0b01 << 6;
    const WALKS: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
    let physical_size = mrs!("tcr_el2") >> 16 & 0b111;
    // SAFETY: the register acts on stage 2, which translates for EL1 and EL0 alone, where nothing
    // is loaded, by the caller.
    unsafe { msr!("vtcr_el2", RES1 | physical_size << 16 | WALKS | SL0_LEVEL1 | (64 - 39)) };
}

/// Proof that a guest's memory is active on this core and none of its vCPUs is loaded: stage 1
/// walks nothing.
///
/// The proof can't be sent to another core. [`load`](Self::load) makes it a vCPU that can be
/// entered.
#[must_use]
pub struct Stage2Active {
    /// Makes the type not [`Send`].
    this_core: PhantomData<*mut ()>,
}

/// Makes every walk of stage 1 of this core fail at its beginning, until a vCPU is
/// [loaded](Stage2Active::load).
///
/// A Cortex-A57 or A72 may carry out an AT instruction ahead of time, on a path that is not taken,
/// while some registers are one guest's and some another's, and keep the result (errata 1319537 and
/// 1319367; 1165522 of the first Cortex-A76). So before the registers are mixed, first the walks
/// are disabled, then stage 1 is enabled. Linux's KVM does the same.
///
/// # Safety
///
/// No [`Loaded`](crate::world::Loaded) of this core is alive.
#[inline]
unsafe fn stop_walks() {
    /// TCR_EL1.EPD1 and EPD0, with a granule of 4 KiB and 48-bit addresses.
    const NO_WALKS: u64 = 1 << 23 | 1 << 7 | 0b10 << 30 | 16 << 16 | 16;
    // SAFETY: the registers act at EL1 and EL0 alone, and no vCPU is loaded that owns them, by the
    // caller. The first barrier completes the tables' writes and the walks that the last guest has
    // begun (DDI 0487, D8.1.5).
    unsafe {
        asm!("dsb ish", options(nostack, preserves_flags));
        msr!("tcr_el1", NO_WALKS);
        asm!("isb", options(nostack, preserves_flags));
        msr!("sctlr_el1", boot::SCTLR_EL1_OFF | 1);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Makes the translation at `root`, under `vmid`, the stage 2 of this core: EL1 and EL0 reach what
/// it maps, and no other memory. Stage 1 walks nothing from here on, until a vCPU is
/// [loaded](Stage2Active::load).
///
/// # Safety
///
/// 1. `root` is a stage-2 translation of 39 bits, which maps the guest's own memory and devices
///    alone, and stays until another one is activated on this core.
/// 2. No other translation was ever used under `vmid`.
/// 3. [`cpu::init`](crate::cpu::init) has set up what traps on this core.
/// 4. No [`Stage2Active`] and no [`Loaded`](crate::world::Loaded) of this core is alive.
#[inline]
pub unsafe fn activate_stage2(root: u64, vmid: u8) -> Stage2Active {
    // SAFETY: 1. VTTBR_EL2 acts at EL1 and EL0 alone, and no vCPU is loaded, by condition 4, which
    // `stop_walks` asks for, too. 2. Stage 2 is the guest's own, by condition 1, and the TLBs have
    // no other translation under its VMID, by condition 2. 3. What the guest may not do traps, by
    // condition 3. The exception return orders VTTBR_EL2 before the guest.
    unsafe {
        stop_walks();
        msr!("vttbr_el2", u64::from(vmid) << 48 | root);
    }
    Stage2Active { this_core: PhantomData }
}

impl Stage2Active {
    /// Drops this core's copies of the translations and instructions of the guest: its TLBs tell
    /// neither the vCPUs of a guest apart, nor a guest from another one in its place.
    pub fn forget_vcpu(&mut self) {
        // SAFETY: the instructions change no memory and no register. The core looks translations
        // up, and fetches instructions, again.
        unsafe {
            asm!(
                "isb", // what the VMID was made
                "dsb nshst",
                "tlbi vmalle1",
                "ic iallu",
                "dsb nsh",
                "isb",
                options(nostack, preserves_flags)
            );
        }
    }
}

/// Returns the intermediate physical address of a virtual one, as stage 1 of the loaded vCPU has it
/// for a read at EL1; `None` if that read would fault there.
pub(crate) fn guest_address(virtual_address: u64) -> Option<u64> {
    const FAULT: u64 = 1;
    const PAGE: u64 = 0xffff_ffff_f000;
    let result: u64;
    // SAFETY: 1. The vCPU's own PAR_EL1 is put back. 2. The walk changes nothing but TLBs, which
    // keep what any access of the vCPU would find.
    unsafe {
        asm!(
            "mrs {own}, par_el1",
            "at s1e1r, {address}",
            "isb",
            "mrs {result}, par_el1",
            "msr par_el1, {own}",
            own = out(reg) _,
            address = in(reg) virtual_address,
            result = out(reg) result,
            options(nostack, preserves_flags),
        );
    }
    (result & FAULT == 0).then_some(result & PAGE | virtual_address & 0xfff)
}

/// Drops this core's copies of stage 2 of the loaded guest, for the block or page of the
/// intermediate physical address `ipa`.
pub(crate) fn forget_block(ipa: u64) {
    // SAFETY: the instructions change no memory and no register. The core looks translations up
    // again. Entries that combine both stages are not found by `ipa`, so all of stage 1 is dropped
    // with it (DDI 0487, D8.14.5). The first barrier orders the table's write before the
    // invalidation.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi ipas2e1, {page}",
            "dsb nsh",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            page = in(reg) ipa >> 12,
            options(nostack, preserves_flags)
        );
    }
}

/// Drops all cores' copies of stage 2 of the loaded guest, for the block or page of the
/// intermediate physical address `ipa`.
pub(crate) fn forget_block_everywhere(ipa: u64) {
    // SAFETY: the instructions change no memory and no register. Cores look translations up again.
    // Entries that combine both stages are not found by `ipa`, so all of stage 1 is dropped with it
    // (DDI 0487, D8.14.5). The first barrier orders the table's write before the invalidation, and
    // the others complete it on all cores before what follows.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi ipas2e1is, {page}",
            "dsb ish",
            "tlbi vmalle1is",
            "dsb ish",
            "isb",
            page = in(reg) ipa >> 12,
            options(nostack, preserves_flags)
        );
    }
}

/// Drops all cores' copies of both stages of the loaded guest.
pub(crate) fn forget_all_everywhere() {
    // SAFETY: the instructions change no memory and no register. Cores look translations up again.
    // The barriers order the tables' writes before the invalidation, and complete it on all cores
    // before what follows.
    unsafe {
        asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags));
    }
}

/// Drops all cores' copies of the translation at `root`, which was used under `vmid`, and whose
/// entries are invalid or allow less than before. The translation stays active on this core until
/// another one is.
///
/// # Safety
///
/// 1. No [`Stage2Active`] and no [`Loaded`](crate::world::Loaded) of this core is alive.
/// 2. `root` stays a table for ever, and is never used under another VMID.
pub unsafe fn forget_guest(root: u64, vmid: u8) {
    // SAFETY: 1. No vCPU of this core uses the translation, by condition 1, which `stop_walks` asks
    // for, and a core that walks it nonetheless finds a table, by condition 2. 2. The barriers, the
    // first of which is in `stop_walks`, order the tables' writes before the invalidation, and
    // complete it on all cores before what follows.
    unsafe {
        stop_walks();
        msr!("vttbr_el2", u64::from(vmid) << 48 | root);
        asm!("isb", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags));
    }
}
