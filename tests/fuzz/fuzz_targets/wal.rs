//! libFuzzer's way to `targets::wal`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::wal(data));
