//! The seam between the protocol and the host controller: [`Bus`].

use super::command::Command;
use super::error::Fault;
use super::response::Response;

/// Data that a command moves on the data lines: always whole blocks.
#[derive(Debug)]
pub enum Data<'a> {
    /// No data.
    None,
    /// Data from the card.
    Read(&'a mut [u8]),
    /// Data from the card, which must equal these; otherwise the command fails with [`Fault::Differs`].
    Compare(&'a [u8]),
    /// Data to the card.
    Write(&'a [u8]),
}

/// A host controller with a slot for a card.
///
/// Each call returns within a few seconds, whatever the card does.
pub trait Bus {
    /// Restarts the slot: power, one data line, a clock of at most 400 kHz (4.2.1), and time for the card to wake up.
    fn restart(&mut self) -> Result<(), Fault>;

    /// Sets the clock to 25 MHz, the default speed that every card has (6.6.6).
    fn full_speed(&mut self) -> Result<(), Fault>;

    /// Switches the controller to four data lines.
    fn four_lines(&mut self);

    /// Sends a command, takes the answer, moves the data, and waits while the card is busy. Returns the answer.
    ///
    /// A command with data is answered with the card's status. If that has errors, the command fails with [`Fault::Status`], and no data move. A
    /// command for more than one block takes a [`Command::STOP_TRANSMISSION`] in the end, which the bus sends by itself. After a failure the bus is
    /// ready for the next command.
    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<Response, Fault>;

    /// Returns the milliseconds since some fixed instant.
    fn millis(&self) -> u64;
}
