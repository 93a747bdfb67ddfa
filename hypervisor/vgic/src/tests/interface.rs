//! A CPU interface: what it lets through, and the priorities that run (IHI 0048B.b 3.3 and 4.4).

pub const SPURIOUS: u32 = 1023;

/// GICC_CTLR bits.
pub const ENABLE_BOTH: u32 = 3;
pub const ACK_CTL: u32 = 1 << 2;
pub const CBPR: u32 = 1 << 4;
pub const EOI_MODE: u32 = 1 << 9;

/// The best pending interrupt, as offered to the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub priority: u8,
    pub intid: u16,
    pub source: u8,
    pub group1: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    pub ctlr: u32,
    pub pmr: u8,
    pub bpr: u8,
    pub abpr: u8,
    /// One bit per level.
    pub apr: u32,
}

impl Interface {
    pub fn reset() -> Self {
        Self { ctlr: 0, pmr: 0, bpr: 2, abpr: 3, apr: 0 }
    }

    fn group_priority(&self, offer: Offer) -> u8 {
        let bpr = if offer.group1 && self.ctlr & CBPR == 0 { self.abpr - 1 } else { self.bpr };
        offer.priority & (0xff_u16 << (bpr + 1)) as u8
    }

    fn running(&self) -> u16 {
        match self.apr {
            0 => 0x100,
            apr => (apr.trailing_zeros() * 8) as u16,
        }
    }

    /// Returns whether the best pending interrupt would be signalled.
    pub fn signals(&self, offer: Offer) -> bool {
        self.ctlr & (1 << u32::from(offer.group1)) != 0
            && offer.priority < self.pmr
            && u16::from(self.group_priority(offer)) < self.running()
    }

    /// GICC_IAR. `Ok` if it was acknowledged.
    pub fn acknowledge(&mut self, best: Option<Offer>) -> Result<Offer, u32> {
        let offer = best.filter(|&offer| self.signals(offer)).ok_or(SPURIOUS)?;
        if offer.group1 && self.ctlr & ACK_CTL == 0 {
            return Err(1022);
        }
        self.apr |= 1 << (self.group_priority(offer) / 8);
        Ok(offer)
    }

    /// Drops a priority, as GICC_EOIR does. Returns whether there was one to drop.
    pub fn drop_priority(&mut self) -> bool {
        let any = self.apr != 0;
        self.apr &= self.apr.wrapping_sub(1);
        any
    }

    pub fn splits_eoi(&self) -> bool {
        self.ctlr & EOI_MODE != 0
    }
}

pub fn iar(offer: Offer) -> u32 {
    u32::from(offer.intid) | u32::from(offer.source) << 10
}
