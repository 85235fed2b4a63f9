//! libFuzzer's way to `targets::notify`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::notify(data));
