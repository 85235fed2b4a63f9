//! libFuzzer's way to `targets::ltx_head`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::ltx_head(data));
