//! A guest as gdb and lldb see it: its vCPUs as threads, its registers by name, its memory at its
//! own virtual addresses, breakpoints and watchpoints.
//!
//! The crate is pure code over the seam [`Machine`], tested on the host: EL2 has a guest that runs
//! behind it, the tool `stasis` a checkpoint. The protocol is the crate `gdbstub`'s.
//!
//! - [`registers`]: the registers of a vCPU by gdb's numbers, made from the format's own tables,
//!   and `description`, which names them.
//! - [`translation`]: the walk through a guest's own page tables (DDI 0487, D8.2).
//! - [`points`]: breakpoints and watchpoints as values, and as the debug registers that carry them
//!   out (DDI 0487, D2.8 to D2.11).
//! - [`plan`]: what each vCPU does when gdb lets the guest go on, and what it tells when it has
//!   stopped.
//! - [`target`]: the guest as `gdbstub` wants it. [`session`]: a debugger's visit, fed by bytes.
//!
//! A file that stands above another in this list knows nothing of it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod description;
pub mod machine;
pub mod plan;
pub mod points;
pub mod registers;
pub mod session;
pub mod target;
pub mod translation;

pub use machine::{Machine, Records};
pub use session::Session;

#[cfg(test)]
mod tests;
