//! libFuzzer's way to `targets::wal_built`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| litevisor_fuzz::wal_built(data));
