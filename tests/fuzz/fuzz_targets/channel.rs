//! Bytes as what comes by the line of the channel for programs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::channel::run(data));
