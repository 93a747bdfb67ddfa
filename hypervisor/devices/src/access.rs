//! The width of an access to a device, and how an access of any width is made of accesses to words.

/// The width of an access, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// One byte: LDRB, STRB and the like.
    Byte = 1,
    /// Two bytes: LDRH, STRH and the like.
    Halfword = 2,
    /// Four bytes: LDR and STR of a W register, and the like.
    Word = 4,
    /// Eight bytes: LDR and STR of an X register, and the like.
    Doubleword = 8,
}

impl Width {
    /// Returns the number of bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// Returns whether an access of this width to `address` is aligned.
    #[inline]
    pub const fn is_aligned(self, address: u64) -> bool {
        address & (self.bytes() - 1) == 0
    }

    /// Returns the low bits of `value`, as many as this width has; the bits above are 0.
    #[inline]
    pub const fn truncate(self, value: u64) -> u64 {
        value & (u64::MAX >> (64 - 8 * self as u32))
    }

    /// Returns `value`, which has this width, with its sign copied to all bits above.
    pub const fn sign_extend(self, value: u64) -> u64 {
        let unused = 64 - 8 * self as u32;
        (((value << unused) as i64) >> unused) as u64
    }

    /// Returns `value`, which has this width, with its bytes in the reverse order; the bits above
    /// are 0.
    pub const fn swap_bytes(self, value: u64) -> u64 {
        value.swap_bytes() >> (64 - 8 * self as u32)
    }
}

/// Reads with any width from a device whose registers are words. `word` gets an offset in bytes and
/// returns that register.
///
/// A narrow read returns the low part of the register that its own offset selects; a doubleword
/// reads two registers.
#[inline]
pub fn read_words(offset: u64, width: Width, mut word: impl FnMut(u64) -> u32) -> u64 {
    let low = u64::from(word(offset));
    match width {
        Width::Doubleword => low | u64::from(word(offset + 4)) << 32,
        narrow => narrow.truncate(low),
    }
}

/// Writes with any width to a device whose registers are words. `word` gets an offset in bytes and
/// the value for that register.
///
/// A narrow write passes its value with zeros above; a doubleword writes two registers, the lower
/// one first.
#[inline]
pub fn write_words(offset: u64, width: Width, value: u64, mut word: impl FnMut(u64, u32)) {
    word(offset, width.truncate(value) as u32);
    if width == Width::Doubleword {
        word(offset + 4, (value >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubleword_is_two_registers_and_a_byte_a_part_of_one() {
        let word = |offset: u64| 0x8000_0000 | offset as u32;
        assert_eq!(read_words(8, Width::Doubleword, word), 0x8000_000c_8000_0008);
        assert_eq!(read_words(8, Width::Word, word), 0x8000_0008);
        assert_eq!(read_words(8, Width::Byte, word), 8);

        let mut written = Vec::new();
        write_words(8, Width::Doubleword, 0x1111_2222_3333_4444, |o, v| written.push((o, v)));
        write_words(0, Width::Halfword, 0xabcd_ef01, |o, v| written.push((o, v)));
        assert_eq!(written, [(8, 0x3333_4444), (12, 0x1111_2222), (0, 0xef01)]);
    }
}
