//! libFuzzer's way to `targets::state`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::state(data));
