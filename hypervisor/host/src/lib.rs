//! What the machine decides: which board it is, what its archive and its configuration say, who runs on which core, what is stored when, and what is done
//! about a guest that has stopped.
//!
//! Pure code, tested on the host. What it decides, `boot` and `run` carry out.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod admission;
pub mod archive;
pub mod board;
pub mod care;
pub mod config;
pub mod periodic;
pub mod recovery;
pub mod run_state;
pub mod sched;
pub mod top;
