//! libFuzzer's way to `targets::owner`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::owner(data));
