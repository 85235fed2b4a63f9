//! libFuzzer's way to `targets::config`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::config(data));
