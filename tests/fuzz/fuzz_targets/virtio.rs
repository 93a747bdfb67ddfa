//! Bytes as what a driver does to virtio devices.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::virtio::run(data));
