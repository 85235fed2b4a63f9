pub fn pause(tries: u32) -> std::time::Duration {
    std::time::Duration::from_millis(100 << tries.min(5))
}
