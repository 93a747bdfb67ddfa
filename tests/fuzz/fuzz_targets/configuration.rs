//! Bytes as a compiled configuration of guests.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::boot::configuration(data));
