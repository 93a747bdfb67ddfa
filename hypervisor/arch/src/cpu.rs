//! The calling core: its number, how it waits, and what traps to EL2 while a guest runs.

use crate::{debug, mmu, timer};
use aarch64_cpu::asm;
use aarch64_cpu::registers::{HCR_EL2, Readable};
use core::marker::PhantomData;

/// Returns the calling core's number, 0 for the one that booted. TPIDR_EL2 has it.
#[inline(always)]
pub fn number() -> usize {
    mrs!("tpidr_el2") as usize
}

/// Returns the affinity fields of the calling core's MPIDR_EL1: Aff3, Aff2, Aff1, Aff0, in their
/// places there.
pub fn mpidr() -> u64 {
    mrs!("mpidr_el1") & 0xff_00ff_ffff
}

/// Waits for an interrupt. Interrupts are masked at EL2; one that is pending ends the wait.
pub fn wait_for_interrupt() {
    // Another core may wake this one, or a timer: first complete all writes that the core must see,
    // and the timer's setting.
    dsb();
    asm::barrier::isb(asm::barrier::SY);
    asm::wfi();
}

/// Returns whether a physical interrupt is pending for this core, where interrupts are masked.
#[inline(always)]
pub fn is_interrupt_pending() -> bool {
    /// ISR_EL1.I and F. EL2 reads them of the physical interrupts.
    const INTERRUPTS: u64 = 1 << 7 | 1 << 6;
    mrs!("isr_el1") & INTERRUPTS != 0
}

/// Waits a moment for another core: YIELD, after which an emulator that runs one core at a time
/// goes on with another one, and ISB, which keeps a real core from asking too often.
pub fn wait_for_core() {
    // SAFETY: YIELD is a hint, which changes no register and no memory.
    unsafe { core::arch::asm!("yield", options(nomem, nostack, preserves_flags)) }
    core::hint::spin_loop();
}

/// Wakes the cores that wait for an event, after all earlier writes are complete: SEV.
pub fn send_event() {
    dsb();
    asm::sev();
}

/// Completes all earlier accesses, for every observer, before anything that follows: DSB SY.
#[inline(always)]
pub fn dsb() {
    // SAFETY: a barrier changes no register and no memory.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Orders all earlier reads, those of devices too, before later accesses: DMB ISHLD.
#[inline(always)]
pub fn dmb_reads() {
    // SAFETY: a barrier changes no register and no memory.
    unsafe { core::arch::asm!("dmb ishld", options(nostack, preserves_flags)) };
}

/// Makes earlier writes to system registers take effect for what follows: ISB.
#[inline(always)]
pub(crate) fn isb() {
    // SAFETY: a barrier changes no register and no memory.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// Value of HCR_EL2 while a guest may run, but for what [`set_guest_controls`] adds. Constant, for
/// TLBs may keep fields of it.
///
/// VM: stage 2. SWIO: set/way invalidation is clean-and-invalidate. PTW: no table walks in device
/// memory. FMO, IMO, AMO: interrupts and SErrors come to EL2, virtual ones go to the guest. FB,
/// BSU: the guest's maintenance reaches every core. TID1, TID3: ID registers are trapped. TSC: SMC.
/// TIDCP: the implementation defined registers. TACR: ACTLR_EL1. RW: EL1 is AArch64. TLOR: limited
/// ordering regions. TERR: the records of errors.
pub const GUEST_HCR: u64 = HCR_VM
    | HCR_SWIO
    | HCR_PTW
    | HCR_FMO
    | HCR_IMO
    | HCR_AMO
    | HCR_FB
    | HCR_BSU_INNER
    | HCR_TID1
    | HCR_TID3
    | HCR_TSC
    | HCR_TIDCP
    | HCR_TACR
    | HCR_RW
    | HCR_TLOR
    | HCR_TERR;
const HCR_VM: u64 = 1;
const HCR_SWIO: u64 = 1 << 1;
const HCR_PTW: u64 = 1 << 2;
const HCR_FMO: u64 = 1 << 3;
const HCR_IMO: u64 = 1 << 4;
const HCR_AMO: u64 = 1 << 5;
const HCR_VSE: u64 = 1 << 8;
const HCR_TWI: u64 = 1 << 13;
const HCR_FB: u64 = 1 << 9;
const HCR_BSU_INNER: u64 = 1 << 10;
const HCR_TID1: u64 = 1 << 16;
const HCR_TID2: u64 = 1 << 17;
const HCR_TID3: u64 = 1 << 18;
const HCR_TSC: u64 = 1 << 19;
const HCR_TIDCP: u64 = 1 << 20;
const HCR_TACR: u64 = 1 << 21;
const HCR_RW: u64 = 1 << 31;
const HCR_TLOR: u64 = 1 << 35;
const HCR_TERR: u64 = 1 << 36;

/// Proof that the calling core is set up for guests: what they may not do traps. It can't be sent
/// to another core.
#[derive(Clone, Copy)]
pub struct Ready {
    /// Makes the type not [`Send`].
    this_core: PhantomData<*mut ()>,
}

/// Sets up this core for guests: stops its timers, which the architecture does not promise of a
/// reset, and sets all traps that are the same for every guest.
///
/// The guest uses the hardware's floating point, and its debug registers once it accesses them: see
/// [`debug`]. Its physical timer, the PMU, profiling, trace, SVE and AMU trap.
///
/// # Safety
///
/// No [`Stage2Active`](mmu::Stage2Active) and no [`Loaded`](crate::world::Loaded) of this core is
/// alive, and EL2 has set no deadline.
pub unsafe fn init() -> Ready {
    // SAFETY: 1. No guest is loaded on this core, by the caller. 2. EL2 has set no deadline, by the
    // caller.
    unsafe {
        timer::stop_all();
        init_traps();
        mmu::init_stage2();
        debug::init();
    }
    Ready { this_core: PhantomData }
}

/// Sets the traps that are the same for every guest.
///
/// # Safety
///
/// No [`Stage2Active`](mmu::Stage2Active) and no [`Loaded`](crate::world::Loaded) of this core is
/// alive.
unsafe fn init_traps() {
    const CPTR_RES1: u64 = 0x32ff;
    const CPTR_TZ: u64 = 1 << 8;
    const CPTR_TTA: u64 = 1 << 20;
    const CPTR_TAM: u64 = 1 << 30;
    const MDCR_TPMCR: u64 = 1 << 5;
    const MDCR_TPM: u64 = 1 << 6;
    const MDCR_TDRA: u64 = 1 << 11;
    const MDCR_TPMS: u64 = 1 << 14;
    const MDCR_TTRF: u64 = 1 << 19;
    // ID_AA64DFR0_EL1.PMUVer: 0 is no PMU, 0xf one that is implementation defined.
    let counters = match mrs!("id_aa64dfr0_el1") >> 8 & 0xf {
        0 | 0xf => 0,
        _ => mrs!("pmcr_el0") >> 11 & 0x1f,
    };
    // SAFETY: 1. These registers decide what traps from EL1 and EL0, where nothing is loaded, by
    // the caller, and what a guest sees. 2. EL2's own use of the vector registers, which CPTR_EL2
    // decides, stays allowed. 3. VSESR_EL2 is written only where the CPU has it.
    unsafe {
        msr!("cptr_el2", CPTR_RES1 | CPTR_TZ | CPTR_TTA | CPTR_TAM);
        let profiling = MDCR_TPM | MDCR_TPMCR | MDCR_TPMS;
        msr!("mdcr_el2", counters | profiling | MDCR_TTRF | MDCR_TDRA | debug::TDOSA);
        msr!("hstr_el2", 0);
        // EL1PCTEN and EL1PCEN clear: CNTPCT and the physical timer trap.
        msr!("cnthctl_el2", 0);
        msr!("hcr_el2", GUEST_HCR);
        if has_ras() {
            // VSESR_EL2: the syndrome of a virtual SError.
            msr!("S3_4_C5_C2_3", 0);
        }
        core::arch::asm!("isb", options(nostack, preserves_flags));
    }
}

/// Returns whether the core has the RAS extension: ID_AA64PFR0_EL1.RAS.
#[inline]
fn has_ras() -> bool {
    mrs!("id_aa64pfr0_el1") >> 28 & 0xf != 0
}

/// Clears VDISR_EL2, which the guest reads as DISR_EL1 where the core has RAS. No guest is shown
/// that the core has RAS, but the register does not trap.
#[inline]
pub(crate) fn clear_deferred_serror() {
    if has_ras() {
        // SAFETY: 1. The register exists: the core has RAS. 2. Only the guest sees it.
        unsafe { msr!("S3_4_C12_C1_1", 0) };
    }
}

/// Returns whether a virtual SError is pending for the guest that is loaded: HCR_EL2.VSE.
#[inline]
pub(crate) fn virtual_serror() -> bool {
    HCR_EL2.get() & HCR_VSE != 0
}

/// Makes a virtual SError pending for the guest that is loaded.
pub(crate) fn set_virtual_serror() {
    // SAFETY: VSE acts on the guest alone, and the other bits stay.
    unsafe { msr!("hcr_el2", HCR_EL2.get() | HCR_VSE) };
}

/// Writes HCR_EL2 for the guest that is loaded: whether its WFI traps, whether a virtual SError is
/// pending for it, and whether CTR_EL0 traps, with the registers of cache geometry. These trap if
/// the guest is shown another CTR_EL0 than this core's.
#[inline]
pub(crate) fn set_guest_controls(trap_waits: bool, serror_pending: bool, shown_ctr: u64) {
    let waits = u64::from(trap_waits) * HCR_TWI;
    let serror = u64::from(serror_pending) * HCR_VSE;
    let caches = u64::from(shown_ctr != mrs!("ctr_el0")) * HCR_TID2;
    // SAFETY: TWI, VSE and TID2 act on the guest alone. All other bits stay as `init_traps` set
    // them.
    unsafe { msr!("hcr_el2", GUEST_HCR | waits | serror | caches) };
}

/// Makes the guest's WFI trap, or not: HCR_EL2.TWI.
pub(crate) fn set_trap_of_waits(traps: bool) {
    let others = mrs!("hcr_el2") & !HCR_TWI;
    // SAFETY: TWI acts on the guest alone. All other bits stay as they are.
    unsafe { msr!("hcr_el2", others | if traps { HCR_TWI } else { 0 }) };
}

/// Sets what MIDR_EL1 and MPIDR_EL1 read as in the guest: VPIDR_EL2 and VMPIDR_EL2.
#[inline]
pub(crate) fn set_guest_identity(midr: u64, mpidr: u64) {
    // SAFETY: only reads at EL1 see these values.
    unsafe {
        msr!("vpidr_el2", midr);
        msr!("vmpidr_el2", mpidr);
    }
}

/// Returns CLIDR_EL1.
pub fn cache_levels() -> u64 {
    mrs!("clidr_el1")
}

/// Returns CCSIDR_EL1, of the cache that CSSELR_EL1 selects.
pub fn cache_size() -> u64 {
    // SAFETY: a barrier changes no register and no memory. It is there because CSSELR_EL1 may just
    // have been written.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
    mrs!("ccsidr_el1")
}

/// Returns ESR_EL2 of the exit that was just taken: its syndrome.
#[inline(always)]
pub fn syndrome() -> u64 {
    mrs!("esr_el2")
}

/// Returns FAR_EL2 and HPFAR_EL2 of the exit that was just taken.
#[inline(always)]
pub fn fault_address() -> FaultAddress {
    FaultAddress { far: mrs!("far_el2"), hpfar: mrs!("hpfar_el2") }
}

/// Address whose access was an exit, as the CPU reports it.
#[derive(Clone, Copy, Debug)]
pub struct FaultAddress {
    /// FAR_EL2: the guest's virtual address.
    pub far: u64,
    /// HPFAR_EL2: bits [43:12] of the guest-physical address, at [39:4].
    pub hpfar: u64,
}

macro_rules! id_registers {
    ($($(#[$doc:meta])* $field:ident $name:literal;)*) => {
        /// Values of the ID registers of a core, unchanged.
        #[derive(Clone, Copy, Debug)]
        pub struct IdRegisters { $($(#[$doc])* pub $field: u64,)* }

        impl IdRegisters {
            /// Returns the values that the calling core has.
            pub fn read() -> Self {
                Self { $($field: mrs!($name),)* }
            }
        }
    };
}

id_registers! {
    /// MIDR_EL1.
    midr_el1 "midr_el1";
    /// REVIDR_EL1.
    revidr_el1 "revidr_el1";
    /// CTR_EL0.
    ctr_el0 "ctr_el0";
    /// DCZID_EL0.
    dczid_el0 "dczid_el0";
    /// ID_AA64PFR0_EL1.
    id_aa64pfr0_el1 "id_aa64pfr0_el1";
    /// ID_AA64PFR1_EL1.
    id_aa64pfr1_el1 "id_aa64pfr1_el1";
    /// ID_AA64DFR0_EL1.
    id_aa64dfr0_el1 "id_aa64dfr0_el1";
    /// ID_AA64ISAR0_EL1.
    id_aa64isar0_el1 "id_aa64isar0_el1";
    /// ID_AA64ISAR1_EL1.
    id_aa64isar1_el1 "id_aa64isar1_el1";
    /// ID_AA64MMFR0_EL1.
    id_aa64mmfr0_el1 "id_aa64mmfr0_el1";
    /// ID_AA64MMFR1_EL1.
    id_aa64mmfr1_el1 "id_aa64mmfr1_el1";
    /// ID_AA64MMFR2_EL1.
    id_aa64mmfr2_el1 "S3_0_C0_C7_2";
}
