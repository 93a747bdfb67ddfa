//! The seam between the protocol and the host controller: [`Bus`].

use super::command::Command;
use super::error::Fault;
use super::response::Response;

/// What a command moves on the data lines, always whole blocks.
#[derive(Debug)]
pub enum Data<'a> {
    /// Nothing.
    None,
    /// From the card.
    Read(&'a mut [u8]),
    /// From the card, and it must be this; otherwise it is [`Fault::Differs`].
    Compare(&'a [u8]),
    /// To the card.
    Write(&'a [u8]),
}

/// A host controller with a slot.
///
/// Each call returns within a few seconds, whatever the card does.
pub trait Bus {
    /// Begins anew: power, one data line, a clock of at most 400 kHz (4.2.1), and time for the card to
    /// wake up.
    fn restart(&mut self) -> Result<(), Fault>;

    /// Goes to 25 MHz, the default speed that every card has (6.6.6).
    fn full_speed(&mut self) -> Result<(), Fault>;

    /// Goes to four data lines.
    fn four_lines(&mut self);

    /// Sends a command, takes the answer, moves the data, waits while the card is busy.
    ///
    /// A command with data is answered with the card's status; one with errors in it is [`Fault::Status`], and
    /// then no data move. More blocks than one take a [`Command::STOP_TRANSMISSION`] in the end, which the bus
    /// sends by itself. What failed is forgotten: the bus is ready for the next command.
    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        data: Data<'_>,
    ) -> Result<Response, Fault>;

    /// A clock, in milliseconds.
    fn millis(&self) -> u64;
}
