#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lsio_core::fuzzing::attributes(data));
