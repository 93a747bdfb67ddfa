//! GICC, IHI 0048B.b section 4.4, with EOImode 1: EOIR drops the priority, DIR deactivates. So an
//! interrupt that belongs to a guest stays active here until the guest's own EOI deactivates it,
//! through its list register with HW = 1.

use super::SPURIOUS;
use crate::mmio::{Fixed, Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// 4.4.1.
    GICC_CTLR [
        EnableGrp0 OFFSET(0) NUMBITS(1) [],
        EnableGrp1 OFFSET(1) NUMBITS(1) [],
        EOImode OFFSET(9) NUMBITS(1) []
    ],
    /// 4.4.4. GICC_EOIR and GICC_DIR have the same layout.
    GICC_IAR [
        INTID OFFSET(0) NUMBITS(10) [],
        CPUID OFFSET(10) NUMBITS(3) []
    ]
}

const CTLR: Offset<u32, GICC_CTLR::Register> = Offset::new(0x0000);
const PMR: Offset<u32> = Offset::new(0x0004);
const IAR: Fixed<0x000c, GICC_IAR::Register> = Fixed::HERE;
const EOIR: Fixed<0x0010> = Fixed::HERE;
const APR: Offset<u32> = Offset::new(0x00d0);
const DIR: Fixed<0x1000> = Fixed::HERE;

/// Value of GICC_IAR for an acknowledged interrupt. It must reach [`CpuInterface::drop_priority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Acknowledged {
    iar: u32,
}

impl Acknowledged {
    /// Returns the interrupt's INTID.
    pub const fn intid(self) -> u32 {
        self.iar & 0x3ff
    }
}

/// Bytes of the frame: GICC_DIR is in the second page.
const LEN: usize = 0x2000;

/// CPU interface of the calling core: GICC is banked.
#[derive(Clone, Copy, Debug)]
pub struct CpuInterface {
    frame: Frame<LEN>,
}

impl CpuInterface {
    /// Returns the driver of the CPU interface in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Clears the active priorities that a firmware may have left, lets every priority through, and
    /// starts signalling to the calling core.
    pub fn init_this_cpu(&self) {
        self.frame.at(CTLR).set(0);
        for word in 0..4 {
            self.frame.at(APR.index(word)).set(0);
        }
        self.frame.at(PMR).set(0xff);
        self.frame.at(CTLR).write(
            GICC_CTLR::EnableGrp0::SET + GICC_CTLR::EnableGrp1::SET + GICC_CTLR::EOImode::SET,
        );
    }

    /// Acknowledges the pending interrupt of the highest priority, which becomes active: GICC_IAR.
    /// Returns `None` if none is pending.
    #[inline(always)]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        let iar = self.frame.fixed(IAR).get();
        let acknowledged = Acknowledged { iar };
        (acknowledged.intid() < SPURIOUS - 3).then_some(acknowledged)
    }

    /// Drops the running priority of `interrupt`, so that others of its priority are signalled
    /// again: GICC_EOIR. The interrupt stays active.
    #[inline(always)]
    pub fn drop_priority(&self, interrupt: Acknowledged) {
        self.frame.fixed(EOIR).set(interrupt.iar);
    }

    /// Deactivates an interrupt whose priority was dropped: GICC_DIR.
    #[inline(always)]
    pub fn deactivate(&self, interrupt: Acknowledged) {
        self.frame.fixed(DIR).set(interrupt.iar);
    }
}
