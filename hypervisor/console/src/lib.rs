//! The console on the machine's UART: lines, completion, tables, and commands as data.
//!
//! [`Console`] is the way of all that is said; [`command`] has the commands, and [`text`] keeps what a terminal would obey out of all lines.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod backlog;
pub mod command;
mod console;
pub mod line;
pub mod mux;
mod ring;
mod suggest;
pub mod table;
mod terminal;
pub mod text;
pub mod type_ahead;

pub use self::console::*;
pub use self::terminal::{Terminal, Text};
