//! Bytes as the block maps of a store.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::maps::run(data));
