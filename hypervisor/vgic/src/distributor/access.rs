//! Accesses to the distributor's frame.

use super::register::BLOCK;
use crate::check::Error;
use crate::irq::FIRST_SPI;
use crate::sgi::GICD_SGIR;
use core::ops::Range;

/// Bytes of the distributor's registers.
const SIZE: u64 = 0x1000;

/// An access that the distributor can answer. Others get an external abort, as on QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    offset: u16,
    pub(super) width: u8,
}

impl Access {
    /// An access to the whole of GICD_SGIR.
    pub(crate) const SGIR: Self = Self { offset: GICD_SGIR as u16, width: 4 };

    /// Returns the access to `width` bytes at `offset` from the distributor's base.
    ///
    /// # Errors
    ///
    /// If the distributor cannot answer such an access: of another width than 1, 2, 4 or 8, not
    /// aligned, or beyond its registers.
    #[inline]
    pub fn checked(offset: u64, width: u8) -> Result<Self, Error> {
        if offset >= SIZE || !matches!(width, 1 | 2 | 4 | 8) || offset & (u64::from(width) - 1) != 0
        {
            return Err(Error::NoSuchAccess { offset, width });
        }
        Ok(Self { offset: offset as u16, width })
    }

    /// Returns whether list registers must be folded first, as only they know the answer, or what
    /// there is to clear. Both words of an access of eight bytes are of one kind.
    #[inline]
    pub(super) fn needs_fold(self, write: bool) -> bool {
        match self.offset {
            // ISPENDR and SPENDSGIR: a latch is set whatever there was.
            0x200..0x280 | 0xf20..0xf30 => !write,
            // ICPENDR, ISACTIVER and ICACTIVER, CPENDSGIR.
            0x280..0x400 | 0xf10..0xf20 => true,
            _ => false,
        }
    }

    /// Returns the SPIs that the access is about, if list registers must be folded first.
    pub(super) fn spis(self) -> Range<u16> {
        let first_word = self.offset % BLOCK / 4;
        let words = if self.width == 8 { 2 } else { 1 };
        let is_bitmap = (0x200..0x400).contains(&self.offset);
        let intids = if is_bitmap { first_word * 32..(first_word + words) * 32 } else { 0..0 };
        intids.start.max(FIRST_SPI)..intids.end
    }

    /// Returns the offset of the word, or of the first of two.
    pub(super) fn word(self) -> u16 {
        self.offset & !3
    }

    /// Returns the first bit of the access in its word.
    pub(super) fn shift(self) -> u32 {
        u32::from(self.offset % 4) * 8
    }

    /// Returns the bits of the access, from bit 0 on.
    pub(super) fn mask(self) -> u32 {
        match self.width {
            1 => 0xff,
            2 => 0xffff,
            _ => u32::MAX,
        }
    }
}
