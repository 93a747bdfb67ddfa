//! Packets of gdb's to a guest.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stasis_fuzz::gdb::run(data));
