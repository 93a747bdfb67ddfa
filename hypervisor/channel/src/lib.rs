//! The channel for programs, beside the console for people: what both of its ends have in common.
//! `docs/channel.md` specifies it.
//!
//! [`frame`] makes bytes of a [`Frame`], [`reader`] finds frames among bytes. [`session`] is the
//! machine's side: which frames are right at the moment, and what they ask for. [`stream`] says
//! what a stream leads to. [`flow`] counts the bytes of a stream, on either side. `boot` carries
//! out what is asked, `stasis-client` asks.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cobs;
pub mod flow;
pub mod frame;
pub mod message;
pub mod patience;
pub mod pipe;
pub mod reader;
pub mod session;
pub mod shared;
pub mod silence;
pub mod stream;

pub use frame::{Frame, Kind, MAX_PAYLOAD};
pub use message::Status;
pub use reader::Reader;

/// The version of the channel that this crate speaks.
pub const VERSION: u8 = 1;
