//! libFuzzer's way to `targets::listing`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::listing(data));
