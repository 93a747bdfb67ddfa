//! GICD, IHI 0048B.b section 4.3.

use crate::mmio::{Frame, Offset};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// 4.3.1.
    GICD_CTLR [
        EnableGrp0 OFFSET(0) NUMBITS(1) [],
        EnableGrp1 OFFSET(1) NUMBITS(1) []
    ],
    /// 4.3.2.
    GICD_TYPER [
        /// 32 * (this + 1) INTIDs are implemented.
        ITLinesNumber OFFSET(0) NUMBITS(5) [],
        /// One less than the number of CPU interfaces.
        CPUNumber OFFSET(5) NUMBITS(3) []
    ],
    /// 4.3.15.
    GICD_SGIR [
        SGIINTID OFFSET(0) NUMBITS(4) [],
        CPUTargetList OFFSET(16) NUMBITS(8) [],
        TargetListFilter OFFSET(24) NUMBITS(2) [
            List = 0,
            AllOthers = 1,
            Oneself = 2
        ]
    ]
}

const CTLR: Offset<u32, GICD_CTLR::Register> = Offset::new(0x000);
const TYPER: Offset<u32, GICD_TYPER::Register> = Offset::new(0x004);
const ISENABLER: Offset<u32> = Offset::new(0x100);
const ICENABLER: Offset<u32> = Offset::new(0x180);
const ISPENDR: Offset<u32> = Offset::new(0x200);
const ICPENDR: Offset<u32> = Offset::new(0x280);
const ISACTIVER: Offset<u32> = Offset::new(0x300);
const ICACTIVER: Offset<u32> = Offset::new(0x380);
const IPRIORITYR: Offset<u8> = Offset::new(0x400);
const ITARGETSR: Offset<u8> = Offset::new(0x800);
const ICFGR: Offset<u32> = Offset::new(0xc00);
/// Four bytes a word, one for each SGI: 4.3.16.
const CPENDSGIR: Offset<u32> = Offset::new(0xf10);
const SGIR: Offset<u32, GICD_SGIR::Register> = Offset::new(0xf00);

/// The priority of every physical interrupt. All go to EL2, where none preempts another.
const PRIORITY: u8 = 0xa0;

/// To whom an SGI goes, 4.3.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiTarget {
    /// CPU interfaces by the GIC's own numbers, one bit each.
    List(u8),
    /// Every CPU interface but the sender's.
    AllOthers,
}

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// The distributor of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Distributor {
    frame: Frame<LEN>,
}

impl Distributor {
    /// The distributor in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Number of INTIDs, at most 1020 of which can be real.
    pub fn intid_count(&self) -> u32 {
        32 * (self.frame.at(TYPER).read(GICD_TYPER::ITLinesNumber) + 1)
    }

    /// Disables and clears every SPI, and starts forwarding. Once, by the first core.
    pub fn init(&self) {
        self.frame.at(CTLR).set(0);
        for word in 1..self.intid_count() as usize / 32 {
            self.clear_word(word);
        }
        for spi in 32..self.intid_count().min(1020) {
            self.frame.at(IPRIORITYR.index(spi as usize)).set(PRIORITY);
        }
        self.frame.at(CTLR).write(GICD_CTLR::EnableGrp0::SET + GICD_CTLR::EnableGrp1::SET);
    }

    /// Disables and clears the SGIs and PPIs of this core, then enables the SGIs.
    pub fn init_this_cpu(&self) {
        self.clear_word(0);
        // GICD_ICPENDR does not do it for SGIs.
        for word in 0..4 {
            self.frame.at(CPENDSGIR.index(word)).set(!0);
        }
        for intid in 0..32 {
            self.frame.at(IPRIORITYR.index(intid)).set(PRIORITY);
        }
        self.frame.at(ISENABLER).set(0xffff);
    }

    fn clear_word(&self, word: usize) {
        self.frame.at(ICENABLER.index(word)).set(!0);
        self.frame.at(ICPENDR.index(word)).set(!0);
        self.frame.at(ICACTIVER.index(word)).set(!0);
    }

    /// The GIC's number of this core, as a mask of one bit; it is not the core's logical number.
    /// Read from the banked GICD_ITARGETSR of an SGI, 4.3.12; a uniprocessor GIC reads as 0.
    pub fn this_cpu_mask(&self) -> u8 {
        match self.frame.at(ITARGETSR).get() {
            0 => 1,
            mask => mask,
        }
    }

    /// Lets `intid` be forwarded.
    pub fn enable(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ISENABLER.index(word)).set(bit);
    }

    /// Keeps `intid` from being forwarded.
    pub fn disable(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ICENABLER.index(word)).set(bit);
    }

    /// Routes the SPI `intid` to the CPU interfaces in `mask`.
    pub fn set_targets(&self, intid: u32, mask: u8) {
        self.frame.at(ITARGETSR.index(intid as usize)).set(mask);
    }

    /// Says how the SPI `intid` is triggered. While it is disabled.
    pub fn set_edge(&self, intid: u32, edge: bool) {
        let register = self.frame.at(ICFGR.index(intid as usize / 16));
        let bit = 0b10 << (intid % 16 * 2);
        register.set(if edge { register.get() | bit } else { register.get() & !bit });
    }

    /// Sets or clears the active state of `intid`: while it is active, it is not signalled again.
    pub fn set_active(&self, intid: u32, active: bool) {
        let (word, bit) = place(intid);
        let register = if active { ISACTIVER } else { ICACTIVER };
        self.frame.at(register.index(word)).set(bit);
    }

    /// Forgets that the edge-triggered `intid` has come.
    pub fn clear_pending(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ICPENDR.index(word)).set(bit);
    }

    /// Whether `intid` is pending: of a level-sensitive interrupt, whether its line is asserted.
    pub fn is_pending(&self, intid: u32) -> bool {
        let (word, bit) = place(intid);
        self.frame.at(ISPENDR.index(word)).get() & bit != 0
    }

    /// Whether `intid` is active.
    #[inline]
    pub fn is_active(&self, intid: u32) -> bool {
        let (word, bit) = place(intid);
        self.frame.at(ISACTIVER.index(word)).get() & bit != 0
    }

    /// Sends SGI `intid`, 0 to 15. What was written to memory before is seen by who takes it:
    /// the caller has a DSB in front.
    #[inline]
    pub fn send_sgi(&self, intid: u32, target: SgiTarget) {
        let target = match target {
            SgiTarget::List(mask) => {
                GICD_SGIR::TargetListFilter::List + GICD_SGIR::CPUTargetList.val(u32::from(mask))
            }
            SgiTarget::AllOthers => GICD_SGIR::TargetListFilter::AllOthers,
        };
        self.frame.at(SGIR).write(target + GICD_SGIR::SGIINTID.val(intid));
    }
}

/// The word and the bit of `intid` in a bit-per-interrupt register.
const fn place(intid: u32) -> (usize, u32) {
    (intid as usize / 32, 1 << (intid % 32))
}
