//! libFuzzer's way to `targets::lz4`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::lz4(data));
