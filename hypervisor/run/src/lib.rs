//! Guests on the machine's cores: all that happens between two exits.
//!
//! - [`roster`]: who has each core, and for how long; [`turns`]: the cores' loops that carry it out.
//! - [`slot`]: a guest with its memory and its vCPUs, which are loaded, entered and unloaded there.
//! - [`interrupts`]: the interrupts that a core takes; [`device_interrupts`]: those of them that are guests'.
//! - [`gic`]: the machine's GIC; [`clock`]: its time.
//! - [`shared`]: memory that guests share; [`pool`], [`tables`]: where memory comes from.
//! - [`above`]: who makes guests and looks after them.
//!
//! A crate of its own since it is built for speed: `boot`, which no exit passes through, is built for size.

#![no_std]

extern crate alloc;

pub mod above;
pub mod clock;
pub mod device_interrupts;
pub mod el2;
pub mod gic;
pub mod interrupts;
pub mod pool;
pub mod roster;
pub mod shared;
pub mod slot;
pub mod tables;
pub mod turns;
