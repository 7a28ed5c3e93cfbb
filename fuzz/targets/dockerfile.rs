#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sbx::fuzz::dockerfile(data));
