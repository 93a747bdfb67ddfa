//! SD memory cards (SD Specifications, Part 1, Physical Layer Simplified Specification 9.00): SDSC,
//! SDHC and SDXC, from power-on to reading and writing blocks.
//!
//! - [`Card`]: a card in use.
//! - [`Command`] and [`Response`]: what the card is told, and what it answers.
//! - [`Bus`]: the seam to the host controller, which is [`sdhci`](crate::sdhci).
//! - [`Error`]: what can go wrong, with the name of the command.
//!
//! Nothing here touches hardware: tests have a model of a card behind the bus.

mod bus;
mod card;
mod command;
mod error;
mod response;
mod switch;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use bus::{Bus, Data, Speed};
pub use card::{Card, MAX_BLOCKS};
pub use command::{Answer, Command};
pub use error::{Error, Fault};
pub use response::{Response, StatusErrors};

/// Bytes of a block. Cards of standard capacity can use other sizes too; this driver does not.
pub const BLOCK: usize = 512;
