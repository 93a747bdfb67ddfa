//! SD memory cards (SD Specifications, Part 1, Physical Layer Simplified Specification 9.00): SDSC, SDHC
//! and SDXC, from power-on to reading and writing blocks.
//!
//! - [`Card`]: a card in use.
//! - [`Command`] and [`Response`]: what is said to it, and what it answers.
//! - [`Bus`]: the seam to the host controller, which is [`sdhci`](crate::sdhci).
//! - [`Error`]: what can go wrong, each with the command's name.
//!
//! Nothing here touches hardware: tests have a card of their own behind the bus.

mod bus;
mod card;
mod command;
mod error;
mod response;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use bus::{Bus, Data};
pub use card::{Card, MAX_BLOCKS};
pub use command::{Answer, Command};
pub use error::{Error, Fault};
pub use response::{Response, StatusErrors};

/// Bytes of a block. Cards of standard capacity know others too; they are not used.
pub const BLOCK: usize = 512;
