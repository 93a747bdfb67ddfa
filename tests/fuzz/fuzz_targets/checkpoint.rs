//! Bytes as a checkpoint.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::checkpoint::run(data));
