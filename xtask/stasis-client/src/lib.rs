//! The client's side of the channel of a machine with Stasis, which `docs/channel.md` specifies.
//!
//! [`Target`] says where the channel is. [`Client`] is a session: it sends requests and opens
//! streams, many at a time, and returns what comes as [`Message`]s. [`Client::ask`] is for who asks
//! one thing only. [`Share`] makes one session many, for those who come to a [`Rendezvous`].
//! [`target`] and [`terminal`] also serve `stasis console`.
//!
//! ```no_run
//! use stasis_client::{Client, Options, Target};
//!
//! let target: Target = "unix:target/stasis/channel".parse()?;
//! let mut client = Client::connect(&target, Options::default())?;
//! print!("{}", client.answer("guests --json")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ask;
mod client;
mod error;
mod lock;
mod message;
mod rendezvous;
mod share;
mod signals;
pub mod target;
pub mod terminal;
mod wire;

pub use ask::Part;
pub use client::{Client, Options};
pub use error::Error;
pub use message::Message;
pub use rendezvous::Rendezvous;
pub use share::Share;
pub use stasis_channel::message::Status;
pub use target::Target;
