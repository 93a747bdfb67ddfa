//! Debug registers of a vCPU whose OS lock is locked (DDI 0487, D2 and D24.3). They are read and
//! written in the vCPU's record, because the hardware's lock is never locked for a guest.

use super::Register;
use stasis_state::vcpu::{Debug, Identity};

/// Bits of MDSCR_EL1 that a guest can change: SS, TDCC, KDE and MDE. The others are for an external
/// debugger.
const MDSCR_WRITABLE: u64 = 1 | 1 << 12 | 1 << 13 | 1 << 15;
/// Bits of MDCCINT_EL1 that a guest can change: TX and RX.
const MDCCINT_WRITABLE: u64 = 0b11 << 29;
/// Bits of DBGBCR<n>_EL1 and DBGWCR<n>_EL1 that a guest can change: the upper half is RES0.
const CONTROL_WRITABLE: u64 = 0xffff_ffff;
/// Value that DBGCLAIMSET_EL1 reads: there are eight tags.
const CLAIM_TAGS: u64 = 0xff;

/// A debug register that is in a vCPU's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DebugRegister {
    /// MDSCR_EL1.
    Control,
    /// MDCCINT_EL1.
    ChannelInterrupts,
    /// DBGBVR<n>_EL1.
    BreakpointValue(usize),
    /// DBGBCR<n>_EL1.
    BreakpointControl(usize),
    /// DBGWVR<n>_EL1.
    WatchpointValue(usize),
    /// DBGWCR<n>_EL1.
    WatchpointControl(usize),
}

impl DebugRegister {
    /// Returns a reference to the register in `record`.
    pub(super) fn of(self, record: &mut Debug) -> &mut u64 {
        match self {
            Self::Control => &mut record.mdscr_el1,
            Self::ChannelInterrupts => &mut record.mdccint_el1,
            Self::BreakpointValue(n) => &mut record.dbgbvr[n],
            Self::BreakpointControl(n) => &mut record.dbgbcr[n],
            Self::WatchpointValue(n) => &mut record.dbgwvr[n],
            Self::WatchpointControl(n) => &mut record.dbgwcr[n],
        }
    }

    /// Returns the bits of the register that a write changes.
    pub(super) fn writable(self) -> u64 {
        match self {
            Self::Control => MDSCR_WRITABLE,
            Self::ChannelInterrupts => MDCCINT_WRITABLE,
            Self::BreakpointControl(_) | Self::WatchpointControl(_) => CONTROL_WRITABLE,
            Self::BreakpointValue(_) | Self::WatchpointValue(_) => u64::MAX,
        }
    }
}

/// Returns what answers an access to a debug register while the OS lock is locked. `encoding` is
/// its op0, op1, CRn, CRm and op2. None if it is no debug register, or one that is answered in the
/// same way at all times.
pub(super) fn while_locked(
    encoding: (u16, u16, u16, u16, u16),
    identity: &Identity,
) -> Option<Register> {
    // ID_AA64DFR0_EL1.BRPs and WRPs are one less than the number of breakpoints and watchpoints.
    let dfr0 = *identity.id_aa64dfr0_el1;
    let (last_breakpoint, last_watchpoint) = (dfr0 >> 12 & 0xf, dfr0 >> 20 & 0xf);
    let debug = |register| Some(Register::Debug(register));
    match encoding {
        (2, 0, 0, 2, 2) => debug(DebugRegister::Control),
        (2, 0, 0, 2, 0) => debug(DebugRegister::ChannelInterrupts),
        (2, 0, 0, n, 4) if u64::from(n) <= last_breakpoint => {
            debug(DebugRegister::BreakpointValue(n.into()))
        }
        (2, 0, 0, n, 5) if u64::from(n) <= last_breakpoint => {
            debug(DebugRegister::BreakpointControl(n.into()))
        }
        (2, 0, 0, n, 6) if u64::from(n) <= last_watchpoint => {
            debug(DebugRegister::WatchpointValue(n.into()))
        }
        (2, 0, 0, n, 7) if u64::from(n) <= last_watchpoint => {
            debug(DebugRegister::WatchpointControl(n.into()))
        }
        // OSDTRRX_EL1, OSDTRTX_EL1, OSECCR_EL1; DBGDTR_EL0, DBGDTRRX_EL0; MDCCSR_EL0: the channel
        // to an external debugger, which is absent.
        (2, 0, 0, 0 | 3 | 6, 2) | (2, 3, 0, 4 | 5, 0) => Some(Register::Constant(0)),
        (2, 3, 0, 1, 0) => Some(Register::ReadOnly(0)),
        // DBGCLAIMSET_EL1 reads as the tags that exist, DBGCLAIMCLR_EL1 as the tags that are set.
        // DBGAUTHSTATUS_EL1 says that nothing is allowed.
        (2, 0, 7, 8, 6) => Some(Register::Constant(CLAIM_TAGS)),
        (2, 0, 7, 9, 6) => Some(Register::Constant(0)),
        (2, 0, 7, 14, 6) => Some(Register::ReadOnly(0)),
        _ => None,
    }
}
