//! Bytes as a migration stream of QEMU's.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::stream::run(data));
