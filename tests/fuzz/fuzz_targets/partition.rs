//! Bytes as the partition tables of a disk.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::partition::run(data));
