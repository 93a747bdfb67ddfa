//! Block maps: where the contents of a checkpoint stand. [`NodeRef`] names a block of a map,
//! [`Node`] is what it says, [`Run`] is an entry of a leaf, [`BlockMap`] looks blocks up, and
//! [`Builder`] makes the map of a new checkpoint. [`Whose`] tells them from maps of volumes, which
//! have the same nodes with holes.
//!
//! A map is a tree. A leaf has runs of blocks, in the order of the contents; each other node has
//! the nodes below it. What a node says of its contents is relative to where it begins, so that a
//! leaf can stand in the maps of several checkpoints, wherever the pages that it maps are in each
//! of their files. Whoever refers to a node knows its checksum.

mod builder;
mod lookup;
mod node;
mod run;
mod seen;
mod visit;
mod whose;

pub(crate) use builder::Builder;
pub(crate) use lookup::BlockMap;
pub(crate) use node::{Node, NodeRef};
pub(crate) use run::Run;
pub(crate) use seen::SeenNodes;
pub(crate) use visit::{Expected, Visitor};
pub(crate) use whose::Whose;
