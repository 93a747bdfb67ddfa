//! The registers of a vCPU, except for those of its GIC.
//!
//! The world switch's assembly loads and stores these very structs and relies on the offsets of
//! their fields. The id of a system register is the encoding of its MSR and MRS instructions.
//!
//! The four records that a world switch moves ([`Core`], [`FpSimd`], [`SystemRegisters`],
//! [`Debug`]) are tables that exist once, as macros: `vcpu_core!`, `vcpu_fp!`, `vcpu_system!` and
//! `vcpu_debug!` each pass their lines to the macro that they are given. In this module that macro
//! is [`record!`](crate::record); in `stasis-arch` it generates the world switch; in the tests'
//! guests it generates what tries the switch. So each register has a
//! [`Home`](crate::register::Home), or nothing builds. Of [`Power`] and [`Identity`] the CPU has
//! some, too, in registers of EL2's.

use crate::{record, register::Vector};

/// Passes the table of [`Core`](crate::vcpu::Core) to the macro `$with`.
#[macro_export]
macro_rules! vcpu_core {
    ($with:ident) => {
        $with! {
            /// The general registers, PC and PSTATE.
            pub struct Core in core_regs: VcpuCore {
                /// X0 to X30.
                x: [u64; 31] = 0x01, home entry;
                /// The address of the next instruction.
                pc: u64 = 0x02, home entry;
                /// PSTATE, in the layout of SPSR_EL2.
                pstate: u64 = 0x03, home entry;
            }
        }
    };
}
vcpu_core!(record);

/// Passes the table of [`FpSimd`](crate::vcpu::FpSimd) to the macro `$with`.
#[macro_export]
macro_rules! vcpu_fp {
    ($with:ident) => {
        $with! {
            /// The registers of FP and SIMD.
            pub struct FpSimd in fp_simd: VcpuFp {
                /// V0 to V31.
                v: [Vector; 32] = 0x01, home fp;
                /// FPSR.
                fpsr: u32 = 0x02, home fp;
                /// FPCR.
                fpcr: u32 = 0x03, home fp;
            }
        }
    };
}
vcpu_fp!(record);

/// Returns the id of a system register: the encoding op0, op1, CRn, CRm, op2 of its MSR and MRS
/// instructions.
pub const fn sysreg(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Passes the table of [`SystemRegisters`](crate::vcpu::SystemRegisters) to the macro `$with`.
#[macro_export]
macro_rules! vcpu_system {
    ($with:ident) => {
        $with! {
            /// The system registers of EL1 and EL0, and the special registers after them.
            pub struct SystemRegisters in system: VcpuSystem {
                /// SP_EL0.
                sp_el0: u64 = sysreg(3, 0, 4, 1, 0), home switch;
                /// SP_EL1.
                sp_el1: u64 = sysreg(3, 4, 4, 1, 0), home switch;
                /// ELR_EL1.
                elr_el1: u64 = sysreg(3, 0, 4, 0, 1), home switch;
                /// SPSR_EL1.
                spsr_el1: u64 = sysreg(3, 0, 4, 0, 0), home switch;
                /// SPSR_irq. This and the next three belong to AArch32 at EL1.
                spsr_irq: u64 = sysreg(3, 4, 4, 3, 0), home kept("of AArch32 at EL1, which no guest has");
                /// SPSR_abt.
                spsr_abt: u64 = sysreg(3, 4, 4, 3, 1), home kept("of AArch32 at EL1, which no guest has");
                /// SPSR_und.
                spsr_und: u64 = sysreg(3, 4, 4, 3, 2), home kept("of AArch32 at EL1, which no guest has");
                /// SPSR_fiq.
                spsr_fiq: u64 = sysreg(3, 4, 4, 3, 3), home kept("of AArch32 at EL1, which no guest has");
                /// SCTLR_EL1: MMU and caches off, little-endian, RES1 bits set.
                sctlr_el1: u64 = sysreg(3, 0, 1, 0, 0), reset 0x30d0_0800, home regime;
                /// ACTLR_EL1.
                actlr_el1: u64 = sysreg(3, 0, 1, 0, 1), home kept("its accesses trap");
                /// CPACR_EL1.
                cpacr_el1: u64 = sysreg(3, 0, 1, 0, 2), home switch;
                /// TTBR0_EL1.
                ttbr0_el1: u64 = sysreg(3, 0, 2, 0, 0), home switch;
                /// TTBR1_EL1.
                ttbr1_el1: u64 = sysreg(3, 0, 2, 0, 1), home switch;
                /// TCR_EL1.
                tcr_el1: u64 = sysreg(3, 0, 2, 0, 2), home regime;
                /// AFSR0_EL1.
                afsr0_el1: u64 = sysreg(3, 0, 5, 1, 0), home switch;
                /// AFSR1_EL1.
                afsr1_el1: u64 = sysreg(3, 0, 5, 1, 1), home switch;
                /// ESR_EL1.
                esr_el1: u64 = sysreg(3, 0, 5, 2, 0), home switch;
                /// FAR_EL1.
                far_el1: u64 = sysreg(3, 0, 6, 0, 0), home switch;
                /// PAR_EL1.
                par_el1: u64 = sysreg(3, 0, 7, 4, 0), home switch;
                /// MAIR_EL1.
                mair_el1: u64 = sysreg(3, 0, 10, 2, 0), home switch;
                /// AMAIR_EL1.
                amair_el1: u64 = sysreg(3, 0, 10, 3, 0), home switch;
                /// VBAR_EL1.
                vbar_el1: u64 = sysreg(3, 0, 12, 0, 0), home switch;
                /// CONTEXTIDR_EL1.
                contextidr_el1: u64 = sysreg(3, 0, 13, 0, 1), home switch;
                /// TPIDR_EL1.
                tpidr_el1: u64 = sysreg(3, 0, 13, 0, 4), home switch;
                /// CSSELR_EL1.
                csselr_el1: u64 = sysreg(3, 2, 0, 0, 0), home switch;
                /// TPIDR_EL0.
                tpidr_el0: u64 = sysreg(3, 3, 13, 0, 2), home switch;
                /// TPIDRRO_EL0.
                tpidrro_el0: u64 = sysreg(3, 3, 13, 0, 3), home switch;
                /// DACR32_EL2.
                dacr32_el2: u64 = sysreg(3, 4, 3, 0, 0), home kept("of AArch32 at EL1, which no guest has");
                /// IFSR32_EL2.
                ifsr32_el2: u64 = sysreg(3, 4, 5, 0, 1), home kept("of AArch32 at EL1, which no guest has");
                /// FPEXC32_EL2.
                fpexc32_el2: u64 = sysreg(3, 4, 5, 3, 0), reset 0x700, home kept("of AArch32 at EL1, which no guest has");
                /// CNTKCTL_EL1.
                cntkctl_el1: u64 = sysreg(3, 0, 14, 1, 0), home timer;
                /// CNTV_CTL_EL0. ISTATUS is that of the instant at which the register was saved.
                cntv_ctl_el0: u64 = sysreg(3, 3, 14, 3, 1), home timer;
                /// CNTV_CVAL_EL0.
                cntv_cval_el0: u64 = sysreg(3, 3, 14, 3, 2), home timer;
                /// CNTP_CTL_EL0. ISTATUS is that of the instant at which the register was saved.
                cntp_ctl_el0: u64 = sysreg(3, 3, 14, 2, 1), home kept("its accesses trap: EL2 emulates the physical timer");
                /// CNTP_CVAL_EL0, in ticks of the guest's physical time, which is its virtual time.
                cntp_cval_el0: u64 = sysreg(3, 3, 14, 2, 2), home kept("its accesses trap: EL2 emulates the physical timer");
            }
        }
    };
}
vcpu_system!(record);

/// Number of breakpoints for which the architecture has registers, and of watchpoints.
pub const DEBUG_PAIRS: usize = 16;

/// Passes the table of [`Debug`](crate::vcpu::Debug) to the macro `$with`.
#[macro_export]
macro_rules! vcpu_debug {
    ($with:ident) => {
        $with! {
            /// The registers of self-hosted debug. Elements for breakpoints and watchpoints that
            /// the CPU does not implement are 0.
            pub struct Debug in debug: VcpuDebug {
                /// MDSCR_EL1.
                mdscr_el1: u64 = sysreg(2, 0, 0, 2, 2), home lent;
                /// MDCCINT_EL1.
                mdccint_el1: u64 = sysreg(2, 0, 0, 2, 0), home lent;
                /// OSLSR_EL1.OSLK: 1 while the OS lock is locked, as it is at reset.
                os_lock: u64 = sysreg(2, 0, 1, 1, 4), reset 1, home kept("its accesses trap: no guest locks the hardware's");
                /// `DBGBVR<n>_EL1`, n from 0 on.
                dbgbvr: [u64; DEBUG_PAIRS] = sysreg(2, 0, 0, 0, 4), home lent;
                /// `DBGBCR<n>_EL1`, n from 0 on.
                dbgbcr: [u64; DEBUG_PAIRS] = sysreg(2, 0, 0, 0, 5), home lent;
                /// `DBGWVR<n>_EL1`, n from 0 on.
                dbgwvr: [u64; DEBUG_PAIRS] = sysreg(2, 0, 0, 0, 6), home lent;
                /// `DBGWCR<n>_EL1`, n from 0 on.
                dbgwcr: [u64; DEBUG_PAIRS] = sysreg(2, 0, 0, 0, 7), home lent;
            }
        }
    };
}
vcpu_debug!(record);

/// The bits of [`Core::pstate`] that mean something in AArch64 (DDI 0487, C5.2.19): NZCV, TCO to
/// IL, ALLINT to DAIF, M.
pub const PSTATE_AARCH64: u64 = 0xf3f0_3fdf;
/// The bits of [`Core::pstate`] that mean something in AArch32.
pub const PSTATE_AARCH32: u64 = 0xffff_ffff;
/// M[4], the bit of [`Core::pstate`] that says that the state is AArch32.
pub const PSTATE_IS_AARCH32: u64 = 1 << 4;

/// Returns the bits of a PSTATE that are defined in its execution state, AArch64 or AArch32.
pub const fn defined_pstate(pstate: u64) -> u64 {
    match pstate & PSTATE_IS_AARCH32 {
        0 => pstate & PSTATE_AARCH64,
        _ => pstate & PSTATE_AARCH32,
    }
}

record! {
    /// The power state of the vCPU in the words of PSCI (DEN 0022, AFFINITY_INFO), and its pending
    /// virtual SError.
    pub struct Power in power_regs: VcpuPower {
        /// The vCPU's [`PowerState`].
        state: u8 = 0x01, home record("EL2 answers PSCI");
        /// Address at which the vCPU will be entered, in [`PowerState::OnPending`] and
        /// [`PowerState::Suspended`].
        entry: u64 = 0x02, home record("EL2 answers PSCI");
        /// Value of X0 at that entry.
        context_id: u64 = 0x03, home record("EL2 answers PSCI");
        /// HCR_EL2.VSE: 1 while a virtual SError is pending.
        serror_pending: u8 = 0x04, home el2("HCR_EL2.VSE");
        /// VSESR_EL2: the syndrome of the pending virtual SError.
        serror_syndrome: u64 = 0x05, home kept("no guest is shown RAS, so VSESR_EL2 stays 0");
    }
}

/// The value of [`Power::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PowerState {
    /// The vCPU runs, or waits in WFI.
    On = 0,
    /// The vCPU is off until CPU_ON is called for it.
    Off = 1,
    /// CPU_ON was called for the vCPU, which has not been entered since.
    OnPending = 2,
    /// The vCPU has called CPU_SUSPEND for a power-down state.
    Suspended = 3,
}

record! {
    /// The ID registers as the guest sees them. A host that cannot show the guest the same values
    /// refuses the checkpoint.
    pub struct Identity in identity: VcpuIdentity {
        /// MIDR_EL1.
        midr_el1: u64 = sysreg(3, 0, 0, 0, 0), home el2("VPIDR_EL2");
        /// MPIDR_EL1.
        mpidr_el1: u64 = sysreg(3, 0, 0, 0, 5), home el2("VMPIDR_EL2");
        /// REVIDR_EL1.
        revidr_el1: u64 = sysreg(3, 0, 0, 0, 6), home kept("its reads trap");
        /// CTR_EL0.
        ctr_el0: u64 = sysreg(3, 3, 0, 0, 1), home kept("its reads trap where the machine's is another");
        /// DCZID_EL0.
        dczid_el0: u64 = sysreg(3, 3, 0, 0, 7), home kept("its reads find the machine's, which must be the same");
        /// ID_AA64PFR0_EL1.
        id_aa64pfr0_el1: u64 = sysreg(3, 0, 0, 4, 0), home kept("its reads trap");
        /// ID_AA64PFR1_EL1.
        id_aa64pfr1_el1: u64 = sysreg(3, 0, 0, 4, 1), home kept("its reads trap");
        /// ID_AA64DFR0_EL1.
        id_aa64dfr0_el1: u64 = sysreg(3, 0, 0, 5, 0), home kept("its reads trap");
        /// ID_AA64ISAR0_EL1.
        id_aa64isar0_el1: u64 = sysreg(3, 0, 0, 6, 0), home kept("its reads trap");
        /// ID_AA64ISAR1_EL1.
        id_aa64isar1_el1: u64 = sysreg(3, 0, 0, 6, 1), home kept("its reads trap");
        /// ID_AA64MMFR0_EL1.
        id_aa64mmfr0_el1: u64 = sysreg(3, 0, 0, 7, 0), home kept("its reads trap");
        /// ID_AA64MMFR1_EL1.
        id_aa64mmfr1_el1: u64 = sysreg(3, 0, 0, 7, 1), home kept("its reads trap");
        /// ID_AA64MMFR2_EL1.
        id_aa64mmfr2_el1: u64 = sysreg(3, 0, 0, 7, 2), home kept("its reads trap");
    }
}
