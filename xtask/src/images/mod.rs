//! Ext4 images with Debian's programs for arm64, made of apt's packages when they are asked for,
//! and kept in `target/guests`.
//!
//! - [`system`]: a whole Debian; [`tools`]: programs for a guest that has only a busybox; [`ext4`]:
//!   file systems in images.

pub mod ext4;
pub mod system;
pub mod tools;
