//! The console on the machine's UART: lines, completion, tables, and commands as data.
//!
//! Everything that Stasis says goes through [`Console`]. [`command`] has the commands. [`text`]
//! keeps out of all lines what would control a terminal.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod backlog;
pub mod command;
mod console;
pub mod line;
pub mod lines;
pub mod mux;
mod port;
mod readers;
mod ring;
pub mod several;
mod suggest;
pub mod table;
mod terminal;
pub mod text;
pub mod type_ahead;

pub use self::console::*;
pub use self::terminal::{Terminal, Text};
