//! The lean image, for whoever wants partitions alone: guests of the boot archive, and nobody who
//! gives commands. It has what the module `full` has for the rest of the crate, without a console,
//! a channel for programs, a debugger, and a store with its checkpoints, disks and clones.

pub mod aid;
pub mod chores;
pub mod originals;
pub mod provision;
pub mod storage;
pub mod terminal;
