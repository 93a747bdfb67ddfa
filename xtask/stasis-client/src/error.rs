//! [`Error`]: why a client has no session, or has it no more.

use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Status;

/// Why a client has no session, or has it no more; or how a request has ended that was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error("{0:#}")]
    Connect(anyhow::Error),
    /// Another process of this host has the channel.
    #[error(
        "another tool has the channel at {0}, which serves one at a time; `stasis connect` is for many"
    )]
    InUse(String),
    /// The machine has not said welcome.
    #[error(
        "nobody answers at {target} within {} s: is it a machine's channel, does the machine run, and does no other tool use it?",
        limit.as_secs()
    )]
    NoAnswer {
        /// Where it was asked.
        target: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The machine speaks other versions alone.
    #[error(
        "the machine speaks version {lowest} to {highest} of the channel, and this tool version {}: take the tool of the machine's release",
        stasis_channel::VERSION
    )]
    Version {
        /// The lowest version.
        lowest: u8,
        /// The highest version.
        highest: u8,
    },
    /// The machine, or what leads to it, has closed the connection.
    #[error("the connection was closed: the machine has ended")]
    Closed,
    /// The connection has failed.
    #[error("the connection is lost: {0}")]
    Lost(#[from] io::Error),
    /// The machine does not answer any more.
    #[error("the machine does not answer any more, for {} s", .0.as_secs())]
    Silent(Duration),
    /// The machine has begun anew.
    #[error("the machine was reset in the midst; what was under way is lost")]
    Reset,
    /// Another client has begun a session on the same line.
    #[error("another tool has taken the channel over")]
    TakenOver,
    /// Frames were damaged on the way.
    #[error("the line has lost the end of the answer; ask again")]
    Damaged,
    /// A signal has come that ends the tool.
    #[error("given up ({0})")]
    Interrupted(Signal),
    /// The session has taken longer than its limit.
    #[error("it took longer than it may, and was given up")]
    TooLong,
    /// The machine has refused what was asked, or it has failed.
    #[error("{why}")]
    Refused {
        /// How it has ended.
        status: Status,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Returns the exit code of a program that ends by this error: 1 if the machine has refused it,
    /// 2 for what is mistyped, 3 if there is no session, 4 if the session was lost, 5 for another
    /// version, 6 if it was given up, 7 if it took too long.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status: Status::Mistyped, .. } => 2,
            Self::Refused { status: Status::GivenUp, .. } | Self::Interrupted(_) => 6,
            Self::TooLong => 7,
            Self::Refused { status: Status::Lost, .. } => 4,
            Self::Refused { .. } => 1,
            Self::Connect(_) | Self::InUse(_) | Self::NoAnswer { .. } => 3,
            Self::Version { .. } => 5,
            Self::Closed
            | Self::Lost(_)
            | Self::Silent(_)
            | Self::Reset
            | Self::TakenOver
            | Self::Damaged => 4,
        }
    }
}
