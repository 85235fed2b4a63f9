//! libFuzzer's way to `targets::url`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::url(data));
