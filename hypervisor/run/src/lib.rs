//! Guests on the machine's cores: all that happens from an exit to the next entry.
//!
//! - [`roster`]: who has each core, and for how long; [`turns`]: the cores' loops that carry this
//!   out.
//! - [`domain`]: a guest with its memory and its vCPUs, which are loaded, entered and unloaded
//!   there.
//! - [`interrupts`]: the interrupts that a core takes; [`device_interrupts`]: those of devices that
//!   guests were given.
//! - [`gic`]: the machine's GIC; [`clock`]: wall time; [`el2`]: EL2's accesses to memory that
//!   guests write.
//! - [`shared`]: memory that guests share; [`pool`]: free RAM; [`random`]: random bytes for guests;
//!   [`network`]: their networks; [`tables`]: page tables on the heap.
//! - [`above`]: the seam to the crate that makes guests and looks after them.
//!
//! These modules are a crate of their own because they are built for speed. `boot`, which no exit
//! passes through, is built for size.

#![no_std]

extern crate alloc;

pub mod above;
pub mod clock;
pub mod device_interrupts;
pub mod domain;
pub mod el2;
pub mod gic;
pub mod interrupts;
pub mod network;
pub mod pool;
pub mod random;
pub mod roster;
pub mod shared;
pub mod tables;
pub mod turns;
