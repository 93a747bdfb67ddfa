//! What can go wrong with a card. Each error names the command.

use super::command::Command;
use super::response::StatusErrors;

/// Why a command did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The card did not answer.
    #[error("no answer")]
    NoAnswer,
    /// The answer arrived damaged.
    #[error("the answer arrived damaged")]
    AnswerDamaged,
    /// No data came, or none was taken.
    #[error("no data moved for {ms} ms")]
    DataTimeout {
        /// How long was waited; 0: as long as the controller waits.
        ms: u64,
    },
    /// Data arrived damaged, here or there.
    #[error("data arrived damaged")]
    DataDamaged,
    /// The card has not finished.
    #[error("the card was still busy after {ms} ms")]
    Busy {
        /// How long was waited.
        ms: u64,
    },
    /// The card says that something went wrong.
    #[error("the card reports {0}")]
    Status(StatusErrors),
    /// What was written is not what is there.
    #[error("the card took the data, but has something else there")]
    Differs,
    /// The transfer could not be ended.
    #[error("the end of the transfer (CMD12) failed, status {status:#06x}")]
    Stop {
        /// The controller's Auto CMD Error Status.
        status: u16,
    },
    /// The controller does not do what it must.
    #[error("the controller does not get ready: {what} for {ms} ms")]
    Controller {
        /// What it does instead.
        what: &'static str,
        /// How long was waited.
        ms: u64,
    },
    /// The controller reports something else.
    #[error("the controller reports error status {status:#06x}")]
    Other {
        /// Its Error Interrupt Status.
        status: u16,
    },
}

/// Why a card can't be used, or did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing answers.
    #[error("there is no SD card")]
    NoCard,
    /// The controller can't be brought up.
    #[error("the SD controller can't be set up: {0}")]
    Controller(Fault),
    /// A command failed while the card was set up.
    #[error("the SD card can't be set up: {command}: {fault}, {tries} tries")]
    Start {
        /// The command.
        command: Command,
        /// What was wrong with it.
        fault: Fault,
        /// How often the whole was tried.
        tries: u32,
    },
    /// The card is not one that can be used here.
    #[error("the SD card can't be used: {command}: {why}")]
    Unusable {
        /// The command that told.
        command: Command,
        /// What it told.
        why: &'static str,
    },
    /// Blocks could not be read or written.
    #[error("{command}: {fault}, {tries} tries")]
    Failed {
        /// The command.
        command: Command,
        /// What was wrong with it the last time.
        fault: Fault,
        /// How often it was tried.
        tries: u32,
    },
    /// A command failed, and the card did not come to itself.
    #[error("{command}: {fault}; since then the SD card does not answer")]
    Lost {
        /// The command.
        command: Command,
        /// What was wrong with it.
        fault: Fault,
    },
    /// A write to a card that is write-protected.
    #[error("the SD card is write-protected")]
    WriteProtected,
    /// A request beyond the card.
    #[error("{count} blocks from {block} go beyond the SD card's {capacity}")]
    BeyondEnd {
        /// The first block.
        block: u64,
        /// The number of blocks.
        count: usize,
        /// Blocks of the card.
        capacity: u64,
    },
    /// A buffer that is not a whole number of blocks.
    #[error("{len} bytes are not a whole number of blocks")]
    Length {
        /// Its length.
        len: usize,
    },
}
