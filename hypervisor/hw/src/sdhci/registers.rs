//! The registers of an SDHCI controller (SD Host Controller Simplified Specification 4.20, chapter
//! 2), as words.
//!
//! Many registers have 8 or 16 bits, but Broadcom's controllers take accesses of 32 bits only. So
//! neighbours are one register here.

use crate::mmio::Offset;
use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// Block Size, 2.2.2, and 16-bit Block Count, 2.2.3.
    pub(super) BLOCKS [
        SIZE OFFSET(0) NUMBITS(12) [],
        /// Bytes of memory at whose multiples SDMA stops and waits for an address.
        SDMA_BOUNDARY OFFSET(12) NUMBITS(3) [KiB512 = 7],
        COUNT OFFSET(16) NUMBITS(16) []
    ],
    /// Transfer Mode, 2.2.5, and Command, 2.2.6. Writing it sends the command.
    pub(super) COMMAND [
        DMA_ENABLE OFFSET(0) NUMBITS(1) [],
        BLOCK_COUNT_ENABLE OFFSET(1) NUMBITS(1) [],
        AUTO_COMMAND OFFSET(2) NUMBITS(2) [Cmd12 = 1],
        READ OFFSET(4) NUMBITS(1) [],
        MULTIPLE OFFSET(5) NUMBITS(1) [],
        RESPONSE OFFSET(16) NUMBITS(2) [
            None = 0,
            Long = 1,
            Short = 2,
            ShortBusy = 3
        ],
        CRC_CHECK OFFSET(19) NUMBITS(1) [],
        INDEX_CHECK OFFSET(20) NUMBITS(1) [],
        DATA_PRESENT OFFSET(21) NUMBITS(1) [],
        KIND OFFSET(22) NUMBITS(2) [Normal = 0, Abort = 3],
        INDEX OFFSET(24) NUMBITS(6) []
    ],
    /// Present State, 2.2.9.
    pub(super) PRESENT [
        COMMAND_INHIBIT OFFSET(0) NUMBITS(1) [],
        DATA_INHIBIT OFFSET(1) NUMBITS(1) [],
        /// Level of data line 0: low while the card is busy.
        DATA_0 OFFSET(20) NUMBITS(1) []
    ],
    /// Host Control 1, 2.2.10, and Power Control, 2.2.11.
    pub(super) CONTROL [
        FOUR_LINES OFFSET(1) NUMBITS(1) [],
        HIGH_SPEED OFFSET(2) NUMBITS(1) [],
        DMA_SELECT OFFSET(3) NUMBITS(2) [Sdma = 0, Adma2 = 2],
        POWER OFFSET(8) NUMBITS(1) [],
        VOLTAGE OFFSET(9) NUMBITS(3) [V3_3 = 7]
    ],
    /// Clock Control, 2.2.14, Timeout Control, 2.2.15, and Software Reset, 2.2.16.
    pub(super) CLOCK [
        INTERNAL OFFSET(0) NUMBITS(1) [],
        STABLE OFFSET(1) NUMBITS(1) [],
        TO_CARD OFFSET(2) NUMBITS(1) [],
        DIVIDER_HIGH OFFSET(6) NUMBITS(2) [],
        DIVIDER OFFSET(8) NUMBITS(8) [],
        /// Binary logarithm of the cycles of the time-out clock, less 13.
        TIMEOUT OFFSET(16) NUMBITS(4) [Longest = 0b1110],
        RESET_ALL OFFSET(24) NUMBITS(1) [],
        RESET_COMMAND OFFSET(25) NUMBITS(1) [],
        RESET_DATA OFFSET(26) NUMBITS(1) []
    ],
    /// Normal and Error Interrupt Status, 2.2.17 and 2.2.18; the enables have the same layout.
    /// Writing a bit clears it.
    pub(super) STATUS [
        COMMAND_COMPLETE OFFSET(0) NUMBITS(1) [],
        TRANSFER_COMPLETE OFFSET(1) NUMBITS(1) [],
        /// SDMA has come to a boundary, and waits for an address.
        DMA_INTERRUPT OFFSET(3) NUMBITS(1) [],
        WRITE_READY OFFSET(4) NUMBITS(1) [],
        READ_READY OFFSET(5) NUMBITS(1) [],
        COMMAND_TIMEOUT OFFSET(16) NUMBITS(1) [],
        COMMAND_CRC OFFSET(17) NUMBITS(1) [],
        COMMAND_END_BIT OFFSET(18) NUMBITS(1) [],
        COMMAND_INDEX OFFSET(19) NUMBITS(1) [],
        DATA_TIMEOUT OFFSET(20) NUMBITS(1) [],
        DATA_CRC OFFSET(21) NUMBITS(1) [],
        DATA_END_BIT OFFSET(22) NUMBITS(1) [],
        AUTO_COMMAND OFFSET(24) NUMBITS(1) [],
        ADMA OFFSET(25) NUMBITS(1) [],
        /// All error bits.
        ERRORS OFFSET(16) NUMBITS(10) [All = 0x3ff]
    ],
    /// Auto CMD Error Status, 2.2.23.
    pub(super) AUTO_COMMAND [
        ERRORS OFFSET(0) NUMBITS(16) []
    ],
    /// Capabilities, 2.2.26.
    pub(super) CAPABILITIES [
        /// Base clock in MHz; 0: the controller does not tell.
        BASE_CLOCK_MHZ OFFSET(8) NUMBITS(8) [],
        ADMA2 OFFSET(19) NUMBITS(1) [],
        HIGH_SPEED OFFSET(21) NUMBITS(1) [],
        SDMA OFFSET(22) NUMBITS(1) []
    ],
    /// ADMA Error Status, 2.2.30.
    pub(super) ADMA_ERROR [
        STATUS OFFSET(0) NUMBITS(3) []
    ],
    /// Host Controller Version, 2.2.41, in the upper half.
    pub(super) VERSION [
        SPECIFICATION OFFSET(16) NUMBITS(8) [V1 = 0, V2 = 1]
    ]
}

/// SDMA System Address, 2.2.1.
pub(super) const SDMA_ADDRESS: Offset<u32> = Offset::new(0x00);
pub(super) const BLOCKS: Offset<u32, BLOCKS::Register> = Offset::new(0x04);
pub(super) const ARGUMENT: Offset<u32> = Offset::new(0x08);
pub(super) const COMMAND: Offset<u32, COMMAND::Register> = Offset::new(0x0c);
pub(super) const RESPONSE: Offset<u32> = Offset::new(0x10);
pub(super) const BUFFER: Offset<u32> = Offset::new(0x20);
pub(super) const PRESENT: Offset<u32, PRESENT::Register> = Offset::new(0x24);
pub(super) const CONTROL: Offset<u32, CONTROL::Register> = Offset::new(0x28);
pub(super) const CLOCK: Offset<u32, CLOCK::Register> = Offset::new(0x2c);
pub(super) const STATUS: Offset<u32, STATUS::Register> = Offset::new(0x30);
pub(super) const STATUS_ENABLE: Offset<u32, STATUS::Register> = Offset::new(0x34);
pub(super) const SIGNAL_ENABLE: Offset<u32, STATUS::Register> = Offset::new(0x38);
pub(super) const AUTO_COMMAND: Offset<u32, AUTO_COMMAND::Register> = Offset::new(0x3c);
pub(super) const CAPABILITIES: Offset<u32, CAPABILITIES::Register> = Offset::new(0x40);
pub(super) const ADMA_ERROR: Offset<u32, ADMA_ERROR::Register> = Offset::new(0x54);
/// Lower half of ADMA System Address, 2.2.31: where the table of descriptors is.
pub(super) const ADMA_ADDRESS: Offset<u32> = Offset::new(0x58);
pub(super) const VERSION: Offset<u32, VERSION::Register> = Offset::new(0xfc);
