//! The bit fields of ESR_EL2 and HPFAR_EL2 (DDI 0487, D24.2.40 and D24.2.54).

#![allow(missing_docs, reason = "register_bitfields! documents no enumerated values")]

use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields! {u64,
    /// ESR_EL2. ESR_EL1 has the same layout.
    pub ESR [
        /// Exception class.
        EC OFFSET(26) NUMBITS(6) [
            Unknown = 0x00,
            WfiWfe = 0x01,
            Cp15Mcr = 0x03,
            Cp15Mcrr = 0x04,
            Cp14Mcr = 0x05,
            Cp14Ldc = 0x06,
            FpSimd = 0x07,
            Cp10Vmrs = 0x08,
            PointerAuthentication = 0x09,
            Cp14Mrrc = 0x0c,
            IllegalExecutionState = 0x0e,
            Svc32 = 0x11,
            Hvc32 = 0x12,
            Smc32 = 0x13,
            Svc64 = 0x15,
            Hvc64 = 0x16,
            Smc64 = 0x17,
            SystemRegister = 0x18,
            Sve = 0x19,
            Eret = 0x1a,
            Sme = 0x1d,
            InstructionAbortLower = 0x20,
            InstructionAbortSame = 0x21,
            PcAlignment = 0x22,
            DataAbortLower = 0x24,
            DataAbortSame = 0x25,
            SpAlignment = 0x26,
            Fp32 = 0x28,
            Fp64 = 0x2c,
            SError = 0x2f,
            BreakpointLower = 0x30,
            BreakpointSame = 0x31,
            StepLower = 0x32,
            StepSame = 0x33,
            WatchpointLower = 0x34,
            WatchpointSame = 0x35,
            Bkpt32 = 0x38,
            Brk64 = 0x3c
        ],
        /// 1: the instruction has 32 bits, or its length is not known for this class.
        IL OFFSET(25) NUMBITS(1) [],
        /// Instruction specific syndrome: one of the ISS registers below.
        ISS OFFSET(0) NUMBITS(25) []
    ],
    /// The ISS of a data abort.
    pub ISS_DATA_ABORT [
        /// The syndrome describes the instruction: SAS to AR are valid.
        ISV OFFSET(24) NUMBITS(1) [],
        /// Size of the access.
        SAS OFFSET(22) NUMBITS(2) [
            Byte = 0,
            Halfword = 1,
            Word = 2,
            Doubleword = 3
        ],
        /// A loaded value is sign-extended.
        SSE OFFSET(21) NUMBITS(1) [],
        /// The register that is transferred; 31 is XZR.
        SRT OFFSET(16) NUMBITS(5) [],
        /// The register is an X register.
        SF OFFSET(15) NUMBITS(1) [],
        /// Acquire or release.
        AR OFFSET(14) NUMBITS(1) [],
        /// FAR is not valid.
        FNV OFFSET(10) NUMBITS(1) [],
        /// External abort type.
        EA OFFSET(9) NUMBITS(1) [],
        /// A cache maintenance or an address translation instruction.
        CM OFFSET(8) NUMBITS(1) [],
        /// A stage 2 fault of the walk for stage 1.
        S1PTW OFFSET(7) NUMBITS(1) [],
        /// A write; also for every cache maintenance instruction.
        WNR OFFSET(6) NUMBITS(1) [],
        /// Fault status code.
        FSC OFFSET(0) NUMBITS(6) [
            /// Synchronous external abort, not on a table walk.
            ExternalAbort = 0x10,
            /// Synchronous external abort on a table walk, level 0.
            ExternalAbortOnWalk = 0x14
        ],
        /// The fault status code without its level, where it has one.
        FAULT OFFSET(2) NUMBITS(4) [
            Translation = 1,
            Permission = 3
        ]
    ],
    /// The ISS of a trapped MSR, MRS or system instruction.
    pub ISS_SYSTEM [
        Op0 OFFSET(20) NUMBITS(2) [],
        Op2 OFFSET(17) NUMBITS(3) [],
        Op1 OFFSET(14) NUMBITS(3) [],
        CRn OFFSET(10) NUMBITS(4) [],
        /// The register that is transferred; 31 is XZR.
        Rt OFFSET(5) NUMBITS(5) [],
        CRm OFFSET(1) NUMBITS(4) [],
        /// 1 is a read.
        Direction OFFSET(0) NUMBITS(1) []
    ],
    /// The ISS of a trapped WFI, WFE, WFIT or WFET.
    pub ISS_WFX [
        /// The condition in COND is valid: an AArch32 instruction.
        CV OFFSET(24) NUMBITS(1) [],
        COND OFFSET(20) NUMBITS(4) [],
        /// Which of the four.
        TI OFFSET(0) NUMBITS(2) [
            Wfi = 0,
            Wfe = 1,
            Wfit = 2,
            Wfet = 3
        ]
    ],
    /// The ISS of HVC, SMC, SVC and BRK.
    pub ISS_CALL [
        /// The instruction's immediate.
        Imm16 OFFSET(0) NUMBITS(16) []
    ],
    /// HPFAR_EL2.
    pub HPFAR [
        /// The page of the faulting intermediate physical address: its bits [51:12].
        FIPA OFFSET(4) NUMBITS(40) []
    ]
}

/// An ESR as a value.
pub type Esr = LocalRegisterCopy<u64, ESR::Register>;
/// The ISS of an abort as a value. Instruction aborts have the same layout, without the fields that
/// describe a load or store.
pub type AbortIss = LocalRegisterCopy<u64, ISS_DATA_ABORT::Register>;

/// The meaning of a fault status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// An address beyond what the tables may translate.
    AddressSize,
    /// Nothing is mapped at the address.
    Translation,
    /// The access flag is 0.
    AccessFlag,
    /// The mapping forbids the access.
    Permission,
    /// The memory system answered with an error.
    External,
    /// The memory system answered the table walk with an error.
    ExternalOnWalk,
    /// The access is misaligned.
    Alignment,
    /// Any other code.
    Other(u8),
}

impl FaultKind {
    /// Returns the kind of a fault status code, and its level if it has one.
    pub fn decode(status: u8) -> (Self, Option<u8>) {
        let level = Some(status & 3);
        match status & 0x3f {
            0x00..=0x03 => (Self::AddressSize, level),
            0x04..=0x07 => (Self::Translation, level),
            0x08..=0x0b => (Self::AccessFlag, level),
            0x0c..=0x0f => (Self::Permission, level),
            0x10 => (Self::External, None),
            0x14..=0x17 => (Self::ExternalOnWalk, level),
            0x21 => (Self::Alignment, None),
            other => (Self::Other(other), None),
        }
    }
}
