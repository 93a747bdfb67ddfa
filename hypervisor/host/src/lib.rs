//! What the machine decides, in pure code that is tested on the host. `boot` and `run` carry it
//! out.
//!
//! The machine: [`board`] reads its device tree, [`archive`] and [`config`] what a person wants of
//! it, [`sched`] says who runs on which core. Its guests: [`creation`] makes one from its
//! configuration, [`admission`] from a checkpoint, whose memory [`loading`] brings while it runs;
//! [`registry`] knows which there are, and [`run_state`] what each is doing. What happens without a
//! command: [`care`], of stops by [`recovery`] and of checkpoints by [`periodic`]. [`cloning`] says
//! which guest can be cloned, [`baseline`] which checkpoint can be shared with, [`sets`] what
//! checkpoints are called, [`identity`] what tells each from all others, [`stored`] which of them
//! go, and [`top`] what everybody has done. [`rehearsal`] says on the host what a board would say
//! of a configuration. [`task`] has the rule for what takes long, and [`chores`] what the console's
//! task does in a turn. [`volumes`] makes what is behind a guest's disks, and [`failures`] keeps
//! one that fails from filling the log. [`starved`] has the guests that wait for memory,
//! [`changes`] what clients are told of guests.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod admission;
pub mod archive;
pub mod baseline;
pub mod board;
pub mod care;
pub mod changes;
pub mod chores;
pub mod cloning;
pub mod config;
pub mod creation;
pub mod failures;
pub mod identity;
pub mod loading;
pub mod periodic;
pub mod recovery;
pub mod registry;
pub mod rehearsal;
pub mod run_state;
pub mod sched;
pub mod sets;
pub mod starved;
pub mod stored;
pub mod task;
pub mod top;
pub mod volumes;
