//! A writer at 100 commits a second, three copies, and readers that check every transaction.

use super::*;
use crate::support::litestream;
use std::time::{Duration, Instant};

/// `LITEVISOR_FOLLOW_SECONDS=600` reads longer.
fn seconds() -> u64 {
    std::env::var("LITEVISOR_FOLLOW_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// One of the followers is killed again and again. At the end all copies, Litestream's restore and the
/// database are the same.
#[test]
fn readers_of_three_copies_see_whole_transactions() {
    let site = site();
    let mut writer = site.run_bank(&["--rate", "100"]);
    site.wait_for_acks(0);
    wait_until("a replica", SOON, || site.replica.newest_txid() > 0);
    let copies: Vec<_> = (0..3).map(|number| site.path(&format!("copy-{number}.db"))).collect();
    let mut followers: Vec<_> = copies.iter().map(|copy| follow(&site, copy, &[])).collect();
    for follower in &followers {
        follower.wait_for_log("the first copy", SOON, |line| line.contains("following"));
    }
    let readers: Vec<_> =
        copies.iter().map(|copy| Reader::start(copy, copy.with_extension("seen"))).collect();
    let (begun, mut kills) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(seconds()) {
        let mut victim = followers.remove(0);
        // At another point each time: while it opens, polls, applies.
        let after = site.acked() + 7 + kills * 13 % 40;
        site.wait_for_acks(after);
        kill(victim.pid(), Signal::SIGKILL).unwrap();
        victim.wait(SOON);
        kills += 1;
        followers.insert(0, follow(&site, &copies[0], &[]));
    }
    followers[0].wait_for_log("it to go on", SOON, |line| line.contains("following"));
    assert_eq!(writer.stop().code, 0, "{}", writer.log_text());
    copies.iter().for_each(|copy| wait_for_everything(&site, copy));
    for (number, reader) in readers.into_iter().enumerate() {
        let seen = reader.end();
        eprintln!("copy {number}, {kills} kills of the first follower: {seen:?}");
        seen.assert_whole();
        assert!(seen.states > 10, "{seen:?}");
    }
    followers.into_iter().for_each(stop);
    let theirs = site.path("theirs.db");
    litestream::restore(&site.replica, &theirs).unwrap();
    let wanted = bank::dump(&theirs);
    copies.iter().for_each(|copy| {
        assert!(bank::dump(copy) == wanted, "{} is not what Litestream restores", copy.display())
    });
}
