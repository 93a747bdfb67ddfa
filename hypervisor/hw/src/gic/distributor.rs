//! GICD, IHI 0048B.b section 4.3.

use crate::mmio::{Fixed, Frame, Offset};
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
        /// Implemented INTIDs, in blocks of 32, less one.
        ITLinesNumber OFFSET(0) NUMBITS(5) [],
        /// Number of CPU interfaces, less one.
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
/// One byte for each SGI, four in a word: 4.3.16.
const CPENDSGIR: Offset<u32> = Offset::new(0xf10);
const SGIR: Fixed<0xf00, GICD_SGIR::Register> = Fixed::HERE;

/// Priority of every physical interrupt. All go to EL2, where none preempts another.
const PRIORITY: u8 = 0xa0;

/// Cores that an SGI is sent to, 4.3.15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiTarget {
    /// CPU interfaces, one bit each, by the GIC's own numbers.
    List(u8),
    /// Every CPU interface but the sender's.
    AllOthers,
}

/// Bytes of the frame.
const LEN: usize = 0x1000;

/// The machine's distributor.
#[derive(Clone, Copy, Debug)]
pub struct Distributor {
    frame: Frame<LEN>,
}

impl Distributor {
    /// Returns the driver of the distributor in `frame`.
    pub const fn new(frame: Frame<LEN>) -> Self {
        Self { frame }
    }

    /// Returns the number of INTIDs, a multiple of 32. INTIDs from 1020 on are not real.
    pub fn intid_count(&self) -> u32 {
        32 * (self.frame.at(TYPER).read(GICD_TYPER::ITLinesNumber) + 1)
    }

    /// Disables every SPI, makes it inactive and not pending, and starts forwarding. Called once,
    /// by the first core.
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

    /// Disables the SGIs and PPIs of the calling core, makes them inactive and not pending, and
    /// then enables the SGIs.
    pub fn init_this_cpu(&self) {
        self.clear_word(0);
        // GICD_ICPENDR does not clear the pending state of SGIs.
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

    /// Returns the GIC's number of the calling core, as a mask of one bit. It is not the core's
    /// logical number. The banked GICD_ITARGETSR of an SGI tells it, 4.3.12; with one core it reads
    /// as 0.
    pub fn this_cpu_mask(&self) -> u8 {
        match self.frame.at(ITARGETSR).get() {
            0 => 1,
            mask => mask,
        }
    }

    /// Enables `intid`: it is forwarded.
    pub fn enable(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ISENABLER.index(word)).set(bit);
    }

    /// Disables `intid`: it is not forwarded.
    pub fn disable(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ICENABLER.index(word)).set(bit);
    }

    /// Routes the SPI `intid` to the CPU interfaces in `mask`, by the GIC's own numbers.
    pub fn set_targets(&self, intid: u32, mask: u8) {
        self.frame.at(ITARGETSR.index(intid as usize)).set(mask);
    }

    /// Makes the SPI `intid` edge-triggered, or level-sensitive. The SPI must be disabled.
    pub fn set_edge(&self, intid: u32, edge: bool) {
        let register = self.frame.at(ICFGR.index(intid as usize / 16));
        let bit = 0b10 << (intid % 16 * 2);
        register.set(if edge { register.get() | bit } else { register.get() & !bit });
    }

    /// Makes `intid` active or inactive. While it is active, it is not signalled again.
    pub fn set_active(&self, intid: u32, active: bool) {
        let (word, bit) = place(intid);
        let register = if active { ISACTIVER } else { ICACTIVER };
        self.frame.at(register.index(word)).set(bit);
    }

    /// Clears the pending state of the edge-triggered `intid`.
    pub fn clear_pending(&self, intid: u32) {
        let (word, bit) = place(intid);
        self.frame.at(ICPENDR.index(word)).set(bit);
    }

    /// Returns whether `intid` is pending. A level-sensitive interrupt is while its line is
    /// asserted.
    pub fn is_pending(&self, intid: u32) -> bool {
        let (word, bit) = place(intid);
        self.frame.at(ISPENDR.index(word)).get() & bit != 0
    }

    /// Returns whether `intid` is active.
    #[inline]
    pub fn is_active(&self, intid: u32) -> bool {
        let (word, bit) = place(intid);
        self.frame.at(ISACTIVER.index(word)).get() & bit != 0
    }

    /// Sends SGI `intid`, 0 to 15, to `target`. The caller executes a DSB before, so that the core
    /// that takes the SGI sees what was written to memory.
    #[inline]
    pub fn send_sgi(&self, intid: u32, target: SgiTarget) {
        let target = match target {
            SgiTarget::List(mask) => {
                GICD_SGIR::TargetListFilter::List + GICD_SGIR::CPUTargetList.val(u32::from(mask))
            }
            SgiTarget::AllOthers => GICD_SGIR::TargetListFilter::AllOthers,
        };
        self.frame.fixed(SGIR).write(target + GICD_SGIR::SGIINTID.val(intid));
    }
}

/// Returns the word and the bit of `intid` in a register with one bit per interrupt.
const fn place(intid: u32) -> (usize, u32) {
    (intid as usize / 32, 1 << (intid % 32))
}
