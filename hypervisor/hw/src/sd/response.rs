//! Answers of a card: its status (4.10.1), its operating conditions (5.1) and its CSD (5.3).

use super::BLOCK;
use core::fmt;
use tock_registers::{LocalRegisterCopy, register_bitfields};

/// Payload of an answer, without the command's index and the CRC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Bits 127 to 8 of a long answer in bits 119 to 0; bits 39 to 8 of a short one in bits 31
    /// to 0.
    pub payload: u128,
}

impl Response {
    /// Returns the 32 bits of a short answer.
    pub fn short(self) -> u32 {
        self.payload as u32
    }

    /// Returns a long answer, its bits numbered as in the specification. Bits 7 to 0, where the CRC
    /// was, are 0.
    pub fn long(self) -> u128 {
        self.payload << 8
    }
}

register_bitfields! { u32,
    /// The card's status, 4.10.1.
    pub STATUS [
        CURRENT_STATE OFFSET(9) NUMBITS(4) [
            Idle = 0,
            Ready = 1,
            Identification = 2,
            StandBy = 3,
            Transfer = 4,
            SendingData = 5,
            ReceiveData = 6,
            Programming = 7,
            Disconnected = 8
        ],
        READY_FOR_DATA OFFSET(8) NUMBITS(1) []
    ],
    /// The operating conditions register, 5.1.
    pub OCR [
        /// Set once the card has powered up. While it is clear, no other bit counts.
        POWERED_UP OFFSET(31) NUMBITS(1) [],
        /// CCS in an answer, HCS in the host's argument: blocks are addressed by number.
        HIGH_CAPACITY OFFSET(30) NUMBITS(1) [],
        /// Voltages from 2.7 V on, in steps of 0.1 V.
        VOLTAGES OFFSET(15) NUMBITS(9) [All = 0x1ff],
        /// Voltages of 3.2 to 3.4 V.
        AT_3V3 OFFSET(20) NUMBITS(2) []
    ]
}

register_bitfields! { u128,
    /// The card-specific data, 5.3.
    pub CSD [
        STRUCTURE OFFSET(126) NUMBITS(2) [
            Standard = 0,
            High = 1
        ],
        /// Command class 10: SWITCH_FUNC, which cards have since version 1.10.
        CLASS_SWITCH OFFSET(94) NUMBITS(1) [],
        /// Binary logarithm of the size of the blocks that C_SIZE counts; standard capacity only.
        READ_BL_LEN OFFSET(80) NUMBITS(4) [],
        C_SIZE_STANDARD OFFSET(62) NUMBITS(12) [],
        C_SIZE_MULT OFFSET(47) NUMBITS(3) [],
        C_SIZE_HIGH OFFSET(48) NUMBITS(22) [],
        PERM_WRITE_PROTECT OFFSET(13) NUMBITS(1) [],
        TMP_WRITE_PROTECT OFFSET(12) NUMBITS(1) []
    ]
}

/// Status of a card.
pub type Status = LocalRegisterCopy<u32, STATUS::Register>;

/// Error bits of a status, with their names. COM_CRC_ERROR and ILLEGAL_COMMAND are not among them:
/// they are about the command before, which then had no answer.
const ERRORS: [(u32, &str); 12] = [
    (31, "OUT_OF_RANGE"),
    (30, "ADDRESS_ERROR"),
    (29, "BLOCK_LEN_ERROR"),
    (28, "ERASE_SEQ_ERROR"),
    (27, "ERASE_PARAM"),
    (26, "WP_VIOLATION"),
    (25, "CARD_IS_LOCKED"),
    (24, "LOCK_UNLOCK_FAILED"),
    (21, "CARD_ECC_FAILED"),
    (20, "CC_ERROR"),
    (19, "ERROR"),
    (16, "CSD_OVERWRITE"),
];

/// Errors of a status: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusErrors(u32);

impl StatusErrors {
    /// Returns the errors of `status`, if it has any.
    pub fn of(status: u32) -> Option<Self> {
        let errors = ERRORS.iter().fold(0, |bits, (bit, _)| bits | status & 1 << bit);
        (errors != 0).then_some(Self(errors))
    }
}

impl fmt::Display for StatusErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = ERRORS.iter().filter(|(bit, _)| self.0 & 1 << bit != 0);
        if let Some((_, first)) = names.next() {
            write!(f, "{first}")?;
        }
        names.try_for_each(|(_, name)| write!(f, " and {name}"))
    }
}

/// Description of a card by its CSD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Number of blocks.
    pub blocks: u64,
    /// Whether the card is write-protected, for ever or for now: PERM_WRITE_PROTECT,
    /// TMP_WRITE_PROTECT.
    pub write_protected: bool,
    /// Whether the card takes SWITCH_FUNC.
    pub has_functions: bool,
}

impl Description {
    /// Returns the description in a CSD; `None` if that is of a kind that this driver does not know
    /// (SDUC, and what is to come).
    pub fn of(csd: u128) -> Option<Self> {
        let csd = LocalRegisterCopy::<u128, CSD::Register>::new(csd);
        let blocks = match csd.read_as_enum(CSD::STRUCTURE)? {
            CSD::STRUCTURE::Value::Standard => {
                let units = (csd.read(CSD::C_SIZE_STANDARD) as u64 + 1)
                    << (csd.read(CSD::C_SIZE_MULT) as u32 + 2);
                (units << csd.read(CSD::READ_BL_LEN) as u32) / BLOCK as u64
            }
            CSD::STRUCTURE::Value::High => (csd.read(CSD::C_SIZE_HIGH) as u64 + 1) * 1024,
        };
        let write_protected =
            csd.is_set(CSD::PERM_WRITE_PROTECT) || csd.is_set(CSD::TMP_WRITE_PROTECT);
        let has_functions = csd.is_set(CSD::CLASS_SWITCH);
        Some(Self { blocks, write_protected, has_functions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_csd_tells_the_capacity() {
        // A card of 2 GB, its blocks counted in 1024 bytes.
        let standard = 10 << 80 | 3799 << 62 | 7 << 47;
        let found = Description::of(standard).unwrap();
        assert_eq!(found.blocks * BLOCK as u64, 3800 * 512 * 1024);
        // One of 32 GB.
        let high = 0x400e_0032_5b59_0000_edc8_7f80_0a40_4000;
        assert_eq!(Description::of(high).unwrap().blocks, (0xedc8 + 1) * 1024);
        assert_eq!(Description::of(2 << 126), None);
    }

    #[test]
    fn a_csd_tells_whether_the_card_is_write_protected() {
        let high = 0x400e_0032_5b59_0000_edc8_7f80_0a40_4000;
        for (csd, expected) in [(high, false), (high | 1 << 12, true), (high | 1 << 13, true)] {
            assert_eq!(Description::of(csd).unwrap().write_protected, expected);
        }
    }

    #[test]
    fn errors_of_a_status_are_named() {
        assert_eq!(StatusErrors::of(0x900), None);
        // An illegal command before is no error of this one.
        assert_eq!(StatusErrors::of(1 << 22 | 1 << 23), None);
        let errors = StatusErrors::of(1 << 26 | 1 << 19 | 0x900).unwrap();
        assert_eq!(errors.to_string(), "WP_VIOLATION and ERROR");
    }
}
