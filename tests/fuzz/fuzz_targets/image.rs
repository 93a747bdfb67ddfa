//! Bytes as a guest's image.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::boot::image(data));
