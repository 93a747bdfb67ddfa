//! Errors of a card and of its controller. Each error of a card names the command.

use super::command::Command;
use super::response::StatusErrors;

/// Reason why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The card did not answer.
    #[error("no answer")]
    NoAnswer,
    /// The answer arrived damaged.
    #[error("the answer arrived damaged")]
    AnswerDamaged,
    /// No data came, or none were taken.
    #[error("no data moved for {ms} ms")]
    DataTimeout {
        /// Milliseconds of the wait; 0: as long as the controller waits.
        ms: u64,
    },
    /// Data arrived damaged, at the host or at the card.
    #[error("data arrived damaged")]
    DataDamaged,
    /// The card has not finished in time.
    #[error("the card was still busy after {ms} ms")]
    Busy {
        /// Limit of the wait, in milliseconds.
        ms: u64,
    },
    /// The card's status has errors.
    #[error("the card reports {0}")]
    Status(StatusErrors),
    /// The card has other data than were written.
    #[error("the card took the data, but has something else there")]
    Differs,
    /// The transfer could not be ended.
    #[error("the end of the transfer (CMD12) failed, status {status:#06x}")]
    Stop {
        /// Auto CMD Error Status of the controller.
        status: u16,
    },
    /// The controller did not do in time what it must.
    #[error("the controller does not get ready: {what} for {ms} ms")]
    Controller {
        /// State that it stays in.
        what: &'static str,
        /// Limit of the wait, in milliseconds.
        ms: u64,
    },
    /// The controller could not follow its descriptors in memory.
    #[error("the controller's DMA failed, status {status:#04x}")]
    Dma {
        /// ADMA Error Status of the controller.
        status: u8,
    },
    /// The controller reports an error for which there is no other fault here.
    #[error("the controller reports error status {status:#06x}")]
    Other {
        /// Error Interrupt Status of the controller.
        status: u16,
    },
}

/// Reason why a card can't be used, or did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No card answers.
    #[error("there is no SD card")]
    NoCard,
    /// The controller can't be set up.
    #[error("the SD controller can't be set up: {0}")]
    Controller(Fault),
    /// A command failed while the card was set up.
    #[error("the SD card can't be set up: {command}: {fault}, {tries} tries")]
    Start {
        /// The command.
        command: Command,
        /// Reason why it failed.
        fault: Fault,
        /// Number of tries to set the card up.
        tries: u32,
    },
    /// The card is not one that can be used here.
    #[error("the SD card can't be used: {command}: {why}")]
    Unusable {
        /// The command whose answer says so.
        command: Command,
        /// Reason, for people.
        why: &'static str,
    },
    /// Blocks could not be read or written.
    #[error("{command}: {fault}, {tries} tries")]
    Failed {
        /// The command.
        command: Command,
        /// Reason why it failed the last time.
        fault: Fault,
        /// Number of tries.
        tries: u32,
    },
    /// A command failed, and the card did not recover.
    #[error("{command}: {fault}; since then the SD card does not answer")]
    Lost {
        /// The command.
        command: Command,
        /// Reason why it failed.
        fault: Fault,
    },
    /// A write to a card that is write-protected.
    #[error("the SD card is write-protected")]
    WriteProtected,
    /// A request beyond the card.
    #[error("{count} blocks from {block} go beyond the SD card's {capacity}")]
    BeyondEnd {
        /// Number of the first block.
        block: u64,
        /// Number of blocks.
        count: usize,
        /// Number of blocks of the card.
        capacity: u64,
    },
    /// A buffer that is not a whole number of blocks.
    #[error("{len} bytes are not a whole number of blocks")]
    Length {
        /// Length of the buffer in bytes.
        len: usize,
    },
}
