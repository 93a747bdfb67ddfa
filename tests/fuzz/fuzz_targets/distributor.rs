//! Bytes as what guests and devices do to a virtual GIC.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::distributor::run(data));
