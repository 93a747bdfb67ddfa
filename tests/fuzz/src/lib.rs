//! What the fuzz targets run. The crates' own tests run the same with bounded random bytes.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz distributor`

pub mod boot;
pub mod channel;
pub mod checkpoint;
pub mod distributor;
pub mod gdb;
pub mod maps;
pub mod partition;
pub mod store;
pub mod stream;
pub mod virtio;
