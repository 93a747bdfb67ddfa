//! What is lost on the way to KVM or QEMU, in words, and exactly.
//!
//! A loss tells what a state had and what becomes of it, so it can be applied to the state: what
//! comes back from the other side is the state with its losses applied, no more and no less. The
//! tests hold all conversions to that.

use alloc::string::String;
use core::fmt::Write;

use thiserror::Error;

use crate::vgic::{Bits, Interrupt, Vgic, levels};

/// Something that the other side can't hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Loss {
    #[error("GICD_IIDR is {found:#010x}; the guest will read {becomes:#010x}")]
    Model { found: u32, becomes: u32 },
    #[error("the guest's GIC has {found} priority bits; it will have {becomes}")]
    ImplementedBits { found: u8, becomes: u8 },
    #[error("GICD_CTLR.EnableGrp1 is 1 but can't be kept: group 1 will be disabled")]
    EnableGrp1,
    #[error("{interrupt} is in group 1, but will be in group 0")]
    Group { interrupt: Interrupt },
    #[error("{interrupt} has priority {found:#04x}, but will have {becomes:#04x}")]
    Priority { interrupt: Interrupt, found: u8, becomes: u8 },
    #[error("{interrupt}: its line is high{}, but the line is not kept", merged(*latched))]
    Level { interrupt: Interrupt, latched: bool },
    #[error("{interrupt} is latched, and its line is high: the latch is not kept")]
    Latch { interrupt: Interrupt },
    #[error(
        "GICD_CTLR is 0 and there are pending interrupts: KVM shows them, and will never deliver them"
    )]
    NeverDelivered,
    #[error("the guest's GIC has INTIDs below {found}; it will have those below {becomes}")]
    Interrupts { found: u16, becomes: u16 },
    #[error("{interrupt} is {}-triggered, but will be {}-triggered", trigger(*edge), trigger(!*edge))]
    Trigger { interrupt: Interrupt, edge: bool },
    #[error(
        "interrupt {intid} is held active by vCPU {holder}, which is not kept: vCPU {becomes} will hold it"
    )]
    Holder { intid: usize, holder: usize, becomes: usize },
    #[error("SGI {sgi} of vCPU {vcpu} is active and came from vCPU {from}, which is not kept")]
    ActiveSource { vcpu: usize, sgi: usize, from: u8 },
    #[error(
        "interrupt {intid} has targets {found:#04x}, which with one vCPU nobody can read or write"
    )]
    Targets { intid: usize, found: u8 },
    #[error(
        "CNTP_CTL_EL0 of vCPU {vcpu} is {ctl:#x}, and CNTP_CVAL_EL0 {cval:#x}, which this KVM does not keep: its physical timer, which is off, will be as at reset"
    )]
    PhysicalTimer { vcpu: usize, ctl: u64, cval: u64 },
    #[error("CNTPCT_EL0 is {found:#x}, and will be {becomes:#x}, as CNTVCT_EL0 is")]
    PhysicalCounter { found: u64, becomes: u64 },
    #[error("vCPU {vcpu}: GICC_PMR is {found:#04x} but will be {becomes:#04x}")]
    PriorityMask { vcpu: usize, found: u8, becomes: u8 },
    #[error("vCPU {vcpu}: GICC_BPR is {found} but will be {becomes}")]
    BinaryPoint { vcpu: usize, found: u8, becomes: u8 },
    #[error("vCPU {vcpu}: GICC_ABPR is {found} but will be {becomes}")]
    AliasedBinaryPoint { vcpu: usize, found: u8, becomes: u8 },
    #[error(
        "vCPU {vcpu}: the active priorities are {}, but will be {}", list(*found), list(*becomes)
    )]
    ActivePriorities { vcpu: usize, found: [u32; 4], becomes: [u32; 4] },
}

impl Loss {
    /// Returns whether anybody can find out: the guest, or who looks at its GIC. GICD_ITARGETSR of
    /// a machine with one CPU has no reader.
    pub fn is_observable(&self) -> bool {
        !matches!(self, Self::Targets { .. })
    }

    /// Makes the state what comes back from the other side.
    pub fn apply(self, vgic: &mut Vgic) {
        let dist = &mut vgic.distributor;
        match self {
            Self::Model { becomes, .. } => *dist.iidr = becomes,
            Self::ImplementedBits { becomes, .. } => *dist.prio_bits = becomes,
            Self::EnableGrp1 => *dist.ctlr &= !2,
            Self::Group { interrupt } => vgic.set_bit(Bits::Group, interrupt, false),
            Self::Priority { interrupt, becomes, .. } => vgic.set_priority(interrupt, becomes),
            Self::Level { interrupt, latched } => {
                vgic.set_bit(Bits::Level, interrupt, false);
                if latched {
                    vgic.set_bit(Bits::Latch, interrupt, true);
                }
            }
            Self::Latch { interrupt } => vgic.set_bit(Bits::Latch, interrupt, false),
            // The first changes what happens later, the others are none of the GIC's.
            Self::NeverDelivered | Self::PhysicalTimer { .. } | Self::PhysicalCounter { .. } => {}
            Self::Interrupts { becomes, .. } => vgic.truncate(becomes),
            Self::Trigger { interrupt, edge } => vgic.set_bit(Bits::Edge, interrupt, !edge),
            Self::Holder { intid, becomes, .. } => vgic.set_holder(intid, Some(becomes)),
            Self::ActiveSource { vcpu, sgi, .. } => vgic.cpus[vcpu].sgi_active_src[sgi] = 0,
            Self::Targets { intid, .. } => dist.spi_targets[intid - 32] = 0,
            Self::PriorityMask { vcpu, becomes, .. } => *vgic.cpus[vcpu].cc_pmr = becomes,
            Self::BinaryPoint { vcpu, becomes, .. } => *vgic.cpus[vcpu].cc_bpr = becomes,
            Self::AliasedBinaryPoint { vcpu, becomes, .. } => *vgic.cpus[vcpu].cc_abpr = becomes,
            Self::ActivePriorities { vcpu, becomes, .. } => *vgic.cpus[vcpu].cc_apr = becomes,
        }
    }
}

fn merged(latched: bool) -> &'static str {
    if latched { " and comes back as a latched pending state" } else { "" }
}

fn trigger(edge: bool) -> &'static str {
    if edge { "edge" } else { "level" }
}

/// The priorities of GICC_APR: "0x20 and 0xa0".
fn list(apr: [u32; 4]) -> String {
    let mut text = String::new();
    for level in levels(apr) {
        let separator = if text.is_empty() { "" } else { " and " };
        // Writing to a String does not fail.
        let _ = write!(text, "{separator}{:#04x}", level << 1);
    }
    if text.is_empty() { "none".into() } else { text }
}
