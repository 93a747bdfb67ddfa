//! Bytes as the catalogs of a store.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::store::run(data));
