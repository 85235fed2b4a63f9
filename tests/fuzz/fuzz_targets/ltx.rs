//! libFuzzer's way to `targets::ltx`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::ltx(data));
