//! A create-only put that meets an existing file: it is ours only when the header is the same.

use crate::ltx::Header;
use crate::model::{DbChecksum, Deadline, PageSize, Txid, TxidRange};
use crate::replicate::upload::{self, Content, Segment, Stored};
use crate::store::layout::Level;
use crate::store::{Body, Put, Scheme, StoreSettings, open};
use bytes::Bytes;
use std::time::Duration;

fn ours() -> Header {
    let mut header = Header::new(PageSize::new(4096).unwrap(), 1, TxidRange::single(Txid(7)), 1_000);
    header.node_id = 5;
    header.db_checksum = DbChecksum::from_header(1 << 63 | 5);
    header
}

#[tokio::test]
async fn only_the_same_header_makes_an_existing_file_ours() {
    let mut another_run = ours();
    another_run.node_id = 6;
    let mut later = ours();
    later.timestamp_ms += 1;
    let mut another_state = ours();
    another_state.db_checksum = DbChecksum::from_header(1 << 63 | 6);
    let bytes = |header: &Header| Bytes::copy_from_slice(&header.encode().unwrap());
    for (case, existing, expected) in [
        ("a reply was lost", bytes(&ours()), "Yes(0)"),
        ("an earlier try of this run, at another time", bytes(&later), "Earlier"),
        ("an earlier try of this run, with another state", bytes(&another_state), "Earlier"),
        ("another writer", bytes(&another_run), "Foreign"),
        ("no LTX file", Bytes::from_static(b"garbage"), "Foreign"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_str().unwrap().to_owned();
        let store =
            open(&StoreSettings::new(Scheme::File, format!("file://{path}"), String::new(), path)).unwrap();
        let key = store.layout().key(Level::RAW, ours().range);
        let by = Deadline::after(Duration::from_secs(60));
        assert_eq!(store.put_new(&key, Body::Whole(existing), 0, by).await.unwrap(), Put::Created);
        let segment =
            Segment { level: Level::RAW, header: ours(), content: Content::Encoded(bytes(&ours())) };
        let stored = upload::put(&*store, &segment).await.unwrap();
        assert!(format!("{stored:?}").starts_with(expected), "{case}: {stored:?}");
        assert_eq!(matches!(stored, Stored::Yes(_)), expected == "Yes(0)", "{case}");
    }
}
