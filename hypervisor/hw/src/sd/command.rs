//! The commands that are used, under the specification's names (4.7.4).

use core::fmt;

/// Kind of the answer to a command (4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No answer.
    None,
    /// R1, R6 or R7: 48 bits, with the command's index and a CRC.
    Short,
    /// R1b: 48 bits, with the command's index and a CRC. Then the card may be busy.
    ShortBusy,
    /// R2: 136 bits, with a CRC.
    Long,
    /// R3: 48 bits, without index or CRC.
    Bare,
}

/// A command to a card.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// Number of the command.
    pub index: u8,
    /// Whether the command must follow an [`APP_CMD`](Self::APP_CMD).
    pub application: bool,
    /// Kind of the card's answer.
    pub answer: Answer,
    name: &'static str,
}

impl Command {
    const fn new(index: u8, name: &'static str, answer: Answer) -> Self {
        Self { index, application: false, answer, name }
    }

    const fn application(index: u8, name: &'static str, answer: Answer) -> Self {
        Self { application: true, ..Self::new(index, name, answer) }
    }

    /// Puts all cards into their first state.
    pub const GO_IDLE_STATE: Self = Self::new(0, "GO_IDLE_STATE", Answer::None);
    /// Asks for the card's own number, and makes it ready for the next command.
    pub const ALL_SEND_CID: Self = Self::new(2, "ALL_SEND_CID", Answer::Long);
    /// Asks for the address that the card will have.
    pub const SEND_RELATIVE_ADDR: Self = Self::new(3, "SEND_RELATIVE_ADDR", Answer::Short);
    /// Makes the card use four data lines, or one.
    pub const SET_BUS_WIDTH: Self = Self::application(6, "SET_BUS_WIDTH", Answer::Short);
    /// Asks which functions the card has, or switches them.
    pub const SWITCH_FUNC: Self = Self::new(6, "SWITCH_FUNC", Answer::Short);
    /// Selects the card that takes the commands that follow.
    pub const SELECT_CARD: Self = Self::new(7, "SELECT_CARD", Answer::ShortBusy);
    /// Offers a voltage; cards before version 2.00 do not know it.
    pub const SEND_IF_COND: Self = Self::new(8, "SEND_IF_COND", Answer::Short);
    /// Asks for the card-specific data: its capacity and more.
    pub const SEND_CSD: Self = Self::new(9, "SEND_CSD", Answer::Long);
    /// Ends a transfer.
    pub const STOP_TRANSMISSION: Self = Self::new(12, "STOP_TRANSMISSION", Answer::ShortBusy);
    /// Asks for the card's status.
    pub const SEND_STATUS: Self = Self::new(13, "SEND_STATUS", Answer::Short);
    /// Sets the length of a block.
    pub const SET_BLOCKLEN: Self = Self::new(16, "SET_BLOCKLEN", Answer::Short);
    /// Reads a block.
    pub const READ_SINGLE_BLOCK: Self = Self::new(17, "READ_SINGLE_BLOCK", Answer::Short);
    /// Reads blocks until [`STOP_TRANSMISSION`](Self::STOP_TRANSMISSION).
    pub const READ_MULTIPLE_BLOCK: Self = Self::new(18, "READ_MULTIPLE_BLOCK", Answer::Short);
    /// Writes a block.
    pub const WRITE_BLOCK: Self = Self::new(24, "WRITE_BLOCK", Answer::Short);
    /// Writes blocks until [`STOP_TRANSMISSION`](Self::STOP_TRANSMISSION).
    pub const WRITE_MULTIPLE_BLOCK: Self = Self::new(25, "WRITE_MULTIPLE_BLOCK", Answer::Short);
    /// Tells the voltages that the host has, and asks whether the card has powered up.
    pub const SD_SEND_OP_COND: Self = Self::application(41, "SD_SEND_OP_COND", Answer::Bare);
    /// Announces an application command.
    pub const APP_CMD: Self = Self::new(55, "APP_CMD", Answer::Short);
}

#[cfg(test)]
impl Command {
    /// Returns the command that a card of tests was sent.
    pub fn find(index: u8, application: bool) -> Self {
        let all = [
            Self::GO_IDLE_STATE,
            Self::ALL_SEND_CID,
            Self::SEND_RELATIVE_ADDR,
            Self::SET_BUS_WIDTH,
            Self::SWITCH_FUNC,
            Self::SELECT_CARD,
            Self::SEND_IF_COND,
            Self::SEND_CSD,
            Self::STOP_TRANSMISSION,
            Self::SEND_STATUS,
            Self::SET_BLOCKLEN,
            Self::READ_SINGLE_BLOCK,
            Self::READ_MULTIPLE_BLOCK,
            Self::WRITE_BLOCK,
            Self::WRITE_MULTIPLE_BLOCK,
            Self::SD_SEND_OP_COND,
            Self::APP_CMD,
        ];
        let known = |command: &Self| (command.index, command.application) == (index, application);
        all.into_iter().find(known).expect("nobody sends this command")
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.application { "ACMD" } else { "CMD" };
        write!(f, "{prefix}{} ({})", self.index, self.name)
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
