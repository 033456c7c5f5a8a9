#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| highwater_storage::fuzzing::storage_small_file(data));
