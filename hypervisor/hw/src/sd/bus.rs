//! The seam between the protocol and the host controller: [`Bus`].

use super::command::Command;
use super::error::Fault;
use super::response::Response;

/// Speed of the data lines at 3.3 V.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// At most 25 MHz, which every card has (6.6.6).
    Default,
    /// At most 50 MHz (6.6.7).
    High,
}

impl Speed {
    /// Returns the most Hz of the clock.
    pub const fn hertz(self) -> u32 {
        match self {
            Self::Default => 25_000_000,
            Self::High => 50_000_000,
        }
    }
}

/// Data that a command moves on the data lines: whole blocks, or one shorter one.
#[derive(Debug)]
pub enum Data<'a> {
    /// No data.
    None,
    /// Data from the card.
    Read(&'a mut [u8]),
    /// Data from the card, which must equal these; otherwise the command fails with
    /// [`Fault::Differs`].
    Compare(&'a [u8]),
    /// Data to the card.
    Write(&'a [u8]),
}

impl Data<'_> {
    /// Returns the number of bytes.
    #[allow(clippy::len_without_is_empty, reason = "data without bytes are Data::None")]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Read(buf) => buf.len(),
            Self::Compare(buf) | Self::Write(buf) => buf.len(),
        }
    }
}

/// A host controller with a slot for a card.
///
/// Each call returns within a few seconds, whatever the card does.
pub trait Bus {
    /// Restarts the slot: power, one data line, a clock of at most 400 kHz (4.2.1), and time for
    /// the card to wake up.
    fn restart(&mut self) -> Result<(), Fault>;

    /// Returns whether the controller has [`Speed::High`].
    fn has_high_speed(&self) -> bool;

    /// Sets the clock of a card that was told of it.
    fn set_speed(&mut self, speed: Speed) -> Result<(), Fault>;

    /// Switches the controller to four data lines.
    fn four_lines(&mut self);

    /// Sends a command, takes the answer, moves the data, and waits while the card is busy. Returns
    /// the answer.
    ///
    /// A command with data is answered with the card's status. If that has errors, the command
    /// fails with [`Fault::Status`], and no data move. A command for more than one block takes a
    /// [`Command::STOP_TRANSMISSION`] in the end, which the bus sends by itself. After a failure
    /// the bus is ready for the next command.
    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<Response, Fault>;

    /// Returns the milliseconds since some fixed instant.
    fn millis(&self) -> u64;
}
