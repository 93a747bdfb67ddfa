//! Why a command of the console was not carried out: [`NotCarriedOut`]. It becomes a text where
//! its answer ends, at the console or in the channel's session.

use crate::catalog::CatalogError;
use crate::checkpoint::CheckpointError;
use crate::clone::CloneError;
use crate::console::find::NoTerminal;
use crate::disks::Unflushed;
use crate::firmware;
use crate::guests::GuestError;
use crate::resume::error::ResumeError;
use crate::volumes::VolumeCommandError;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use stasis_console::command::CommandError;
use stasis_console::several::NotAll;
use stasis_host::config::PlanError;
use stasis_host::run_state::Misfit;

/// Why a command line was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotCarriedOut {
    /// The line is no command.
    #[error(transparent)]
    Mistyped(CommandError),
    /// The command was refused, or has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a command was refused, or has failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command names a guest that there is not, or one twice.
    #[error(transparent)]
    Guest(#[from] CommandError),
    /// The command was not carried out for all of its guests.
    #[error(transparent)]
    NotAll(#[from] NotAll<WhyNot>),
    /// Guests are off or removed, but what they have written was not flushed.
    #[error(transparent)]
    Unflushed(#[from] Box<GoneUnflushed>),
    /// Nothing was stored.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No guest goes on from a checkpoint.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// There is no clone.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// The store's checkpoints are as they were.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store's volumes are as they were.
    #[error(transparent)]
    Volume(#[from] VolumeCommandError),
    /// A core's time can't be divided like that.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine has no core of this number.
    #[error("there is no core {0}")]
    NoSuchCore(u32),
    /// The guest has no terminal.
    #[error(transparent)]
    NoTerminal(#[from] NoTerminal),
    /// No command was under way.
    #[error("there was no command to give up, or it was too late")]
    NothingToCancel,
    /// The machine is still on.
    #[error(transparent)]
    Firmware(#[from] firmware::Error),
    /// The command only looks, and was answered before.
    #[error("it was answered before")]
    Answered,
    /// The answer was not written.
    #[error(transparent)]
    Answer(#[from] fmt::Error),
}

/// Why a command was not carried out for one guest.
#[derive(Debug, thiserror::Error)]
pub enum WhyNot {
    /// The command does not fit what the guest is doing.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The machine can't have the guest, or can't start it.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// Guests are off or removed, and what they have written to their disks is lost.
#[derive(Debug, thiserror::Error)]
pub struct GoneUnflushed {
    /// Names of the guests.
    pub guests: Vec<String>,
    /// What they are, in a word.
    pub now: &'static str,
    /// What is lost.
    pub why: Unflushed,
    /// Why others are not.
    pub others: Option<Failure>,
}

impl fmt::Display for GoneUnflushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { guests, now, why, others } = self;
        write!(f, "guest \"{}\" is {now}, but {why}", guests.join("\", \""))?;
        others.as_ref().map_or(Ok(()), |others| write!(f, "; {others}"))
    }
}
