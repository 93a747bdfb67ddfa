//! The whole image: what a machine has with a console, a channel for programs, and a store of
//! checkpoints and disks. In an image without the feature `full`, the module `lean` stands in its
//! place.
//!
//! The rest of the crate uses [`aid`], [`chores`], [`originals`], [`provision`], [`storage`] and
//! [`terminal`], which both have, and nothing else of it.

pub mod aid;
pub mod answer;
pub mod catalog;
pub mod channel;
pub mod checkpoint;
pub mod chores;
pub mod clone;
pub mod console;
pub mod debug;
pub mod disks;
pub mod identity;
pub mod instant;
pub mod lent;
pub mod loading;
pub mod originals;
pub mod provision;
pub mod resume;
pub mod spare;
pub mod storage;
pub mod stream;
pub mod terminal;
pub mod typed;
pub mod volumes;
