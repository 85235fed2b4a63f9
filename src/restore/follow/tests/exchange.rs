//! A copy that is brought to the state of another file in one transaction, and dies at each point of that.

use super::site::{Site, killed, poll};
use super::*;
use crate::restore::follow::fault;

/// What the replica has grown by when the copy is exchanged: the database has grown, has shrunk.
const GROWN: [&str; 2] = [
    "INSERT INTO t(x) SELECT randomblob(3000) FROM t, (VALUES (1), (2), (3), (4))",
    "DELETE FROM t WHERE id > 1; VACUUM",
];

#[tokio::test]
async fn an_exchanged_copy_is_the_other_file_or_what_it_was() {
    for sql in GROWN {
        let mut site = Site::new("PRAGMA page_size=512");
        site.replicate();
        site.commit("INSERT INTO t(x) SELECT randomblob(2000) FROM t, (VALUES (1), (2), (3))").await;
        let first = site.copy("first.db").await;
        let (image, record) =
            (std::fs::read(first.as_path()).unwrap(), state_file::load(&first).unwrap().unwrap());
        let end = site.commit(sql).await;
        let new = site.copy("new.db").await;
        site.stop().await;
        let (mut deaths, mut old) = (0, 0);
        for points in 1.. {
            let copy = DbPath::new(site.path(&format!("{points}.db")));
            std::fs::write(copy.as_path(), &image).unwrap();
            state_file::store(&copy, &crate::lineage::LocalState { file: None, ..record.clone() }).unwrap();
            let follower = site.follow(&copy, Way::ThroughSqlite).await;
            let reader = site::reader(&copy);
            let rows = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
            let before = rows();
            fault::arm(&copy, points);
            let exchanged = exchange(&copy, site.store.url(), &new);
            let died = fault::disarm(&copy);
            assert_eq!(exchanged.as_ref().err().is_some(), died, "{points}");
            // A reader keeps its connection.
            assert!(died || rows() != before);
            drop((exchanged, follower, reader));
            killed(&copy);
            assert_eq!(provenance(&copy, site.store.url()).unwrap(), Provenance::Copy);
            let mut follower = site.follow(&copy, Way::ThroughSqlite).await;
            let followed = poll(&mut follower).await;
            assert_eq!(followed.position, end, "died at {points}");
            old += usize::from(followed.files > 0);
            deaths += usize::from(died);
            site.assert_same(&copy, Way::ThroughSqlite, end).await;
            drop(follower);
            killed(&copy);
            if !died {
                assert_eq!(followed.files, 0, "it stood there already");
                break;
            }
        }
        assert_eq!((deaths, old), (3, 2), "{sql}");
    }
}
