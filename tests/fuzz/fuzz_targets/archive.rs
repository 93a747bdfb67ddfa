//! Bytes as a boot archive.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::boot::archive(data));
