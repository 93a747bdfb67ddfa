//! GICC, IHI 0048B.b section 4.4, with EOImode 1: EOIR drops the priority, DIR deactivates. So an
//! interrupt that belongs to a guest stays active here until the guest's own EOI, through its
//! hardware-linked list register, deactivates it.

use super::SPURIOUS;
use crate::mmio::{Frame, Offset};
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
const IAR: Offset<u32, GICC_IAR::Register> = Offset::new(0x000c);
const EOIR: Offset<u32> = Offset::new(0x0010);
const APR: Offset<u32> = Offset::new(0x00d0);
const DIR: Offset<u32> = Offset::new(0x1000);

/// An acknowledged interrupt; it must reach [`CpuInterface::drop_priority`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Acknowledged {
    iar: u32,
}

impl Acknowledged {
    /// The interrupt's number.
    pub const fn intid(self) -> u32 {
        self.iar & 0x3ff
    }
}

/// Bytes of the frame: GICC_DIR stands in the second page.
const LEN: usize = 0x2000;

/// The CPU interface of the core that uses it.
#[derive(Clone, Copy, Debug)]
pub struct CpuInterface {
    frame: Frame<LEN>,
}

impl CpuInterface {
    /// The CPU interface in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Drops what a firmware may have left, lets every priority through, and starts signalling.
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

    /// Acknowledges the highest pending interrupt, which becomes active.
    #[inline(always)]
    pub fn acknowledge(&self) -> Option<Acknowledged> {
        let iar = self.frame.at(IAR).get();
        let acknowledged = Acknowledged { iar };
        (acknowledged.intid() < SPURIOUS - 3).then_some(acknowledged)
    }

    /// Lets interrupts of this one's priority through again. It stays active.
    #[inline(always)]
    pub fn drop_priority(&self, interrupt: Acknowledged) {
        self.frame.at(EOIR).set(interrupt.iar);
    }

    /// Deactivates an interrupt whose priority was dropped.
    #[inline(always)]
    pub fn deactivate(&self, interrupt: Acknowledged) {
        self.frame.at(DIR).set(interrupt.iar);
    }
}
