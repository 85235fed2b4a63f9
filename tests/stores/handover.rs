//! What a hand-over needs of a store: of several claims one wins, every instance sees what the others have
//! written, and a lost reply does no harm. Checks of the suite, on every store.

use crate::suite::{Subject, soon};
use litevisor::testing::handover::{
    Answer, Beat, Claim, Client, End, Epoch, How, Instance, Position, Positions, Reason, Release, Watch,
    Watched,
};
use litevisor::testing::model::Txid;
use litevisor::testing::store::StoreError;
use std::sync::Arc;
use std::time::Duration;

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn instance(id: &str) -> Instance {
    Instance { id: id.into(), host: "host".into(), revision: Some("r1".into()) }
}

fn claim(number: u64, id: &str) -> Claim {
    let (reason, failed, version) = (Reason::Takeover, None, "1".into());
    let positions =
        Positions::from([("/data/a b.db".to_owned(), Position { txid: Txid(7), checksum: None })]);
    let (instance, heartbeat) = (instance(id), Some(Duration::from_secs(10)));
    Claim { epoch: epoch(number), instance, reason, failed, positions, gated: true, heartbeat, version }
}

/// As the protocol does it: a request that failed is made again.
async fn claimed(client: &Client, claim: &Claim) -> bool {
    for _ in 0..1000 {
        if let Ok(ours) = client.claim(claim, soon()).await {
            return ours;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the store does not answer");
}

pub async fn a_store_that_decides_is_accepted(store: Subject) {
    Client::new(store).check(soon()).await.unwrap();
}

/// For stores that do not.
pub async fn it_is_refused(store: Subject) {
    let error = Client::new(store).check(soon()).await.unwrap_err().to_string();
    assert!(error.contains("use a store that does"), "{error}");
}

pub async fn of_sixteen_claims_one_wins(store: Subject) {
    let claims: Vec<_> = (0..16)
        .map(|number| {
            let client = Client::new(Arc::clone(&store));
            tokio::spawn(async move { claimed(&client, &claim(1, &format!("i{number}"))).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (number, claim) in claims.into_iter().enumerate() {
        if claim.await.unwrap() {
            winners.push(format!("i{number}"));
        }
    }
    let seen = Client::new(store).look(soon()).await.unwrap().unwrap();
    assert_eq!((winners, seen.release), (vec![seen.claim.instance.id], None));
}

pub async fn an_owner_sees_that_it_is_asked(store: Subject) {
    let client = Client::new(store);
    assert_eq!(client.look(soon()).await.unwrap(), None);
    assert!(client.claim(&claim(1, "a"), soon()).await.unwrap());
    let (first, second) = (Some(epoch(1)), Some(epoch(2)));
    let watch = Watch { release_of: first, answer_of: first, claim_of: second, beat_of: None };
    assert_eq!(client.watch(watch, soon()).await.unwrap(), Watched::default());
    assert!(client.claim(&claim(2, "b"), soon()).await.unwrap());
    let answer = Answer { epoch: epoch(1), within: Duration::from_secs(9) };
    client.answer(&answer, soon()).await.unwrap();
    let seen = client.watch(watch, soon()).await.unwrap();
    assert_eq!(seen, Watched { answer: Some(answer), claimed: true, ..Watched::default() });
    let seen = client.look(soon()).await.unwrap().unwrap();
    assert_eq!((seen.claim, seen.release), (claim(2, "b"), None));
}

pub async fn a_release_is_written_once(store: Subject) {
    let client = Client::new(store);
    assert!(client.claim(&claim(1, "a"), soon()).await.unwrap());
    let end = End::At(Positions::from([("a".to_owned(), Position { txid: Txid(9), checksum: None })]));
    let first = Release {
        epoch: epoch(1),
        instance: instance("a"),
        how: How::HandedOver,
        end,
        from: None,
        time_ms: 0,
    };
    client.release(&first, soon()).await.unwrap();
    client
        .release(&Release { how: How::Stopped, end: End::Unproven, ..first.clone() }, soon())
        .await
        .unwrap();
    let seen = client.look(soon()).await.unwrap().unwrap().release.unwrap();
    assert_eq!((seen.how, &seen.end), (How::HandedOver, &first.end));
    assert!(seen.time_ms > 1_700_000_000_000, "the time is stamped when it is written");
}

/// The reply was lost, and the request is made again.
pub async fn a_claim_whose_reply_was_lost_is_ours(store: Subject) {
    let client = Client::new(store);
    for _ in 0..2 {
        assert!(client.claim(&claim(1, "a"), soon()).await.unwrap());
    }
    assert!(!client.claim(&claim(1, "b"), soon()).await.unwrap());
}

/// Of the old epochs the claims stay, and everything of those that an instance may still ask for.
pub async fn old_owner_records_are_deleted(store: Subject) {
    let client = Client::new(Arc::clone(&store));
    for number in [1, 2, 3, 19] {
        assert!(client.claim(&claim(number, "a"), soon()).await.unwrap());
    }
    for number in [1, 2, 3] {
        let end = End::Unproven;
        let release = Release {
            epoch: epoch(number),
            instance: instance("a"),
            how: How::Stopped,
            end,
            from: None,
            time_ms: 0,
        };
        client.release(&release, soon()).await.unwrap();
    }
    client.answer(&Answer { epoch: epoch(2), within: Duration::from_secs(1) }, soon()).await.unwrap();
    store.put("owner/README", "x".into(), soon()).await.unwrap();
    assert_eq!(client.delete_outdated(epoch(18), soon()).await.unwrap(), 1);
    assert_eq!(client.delete_outdated(epoch(19), soon()).await.unwrap(), 2);
    assert_eq!(client.delete_outdated(epoch(19), soon()).await.unwrap(), 0);
    let names = store.list("owner/", soon()).await.unwrap().into_iter().map(|object| object.key);
    let mut names: Vec<String> = names.collect();
    names.sort();
    let claims = ["1", "2", "3"].map(|number| format!("owner/000000000000000{number}.json"));
    let [one, two, three] = claims;
    let left = [
        &one,
        &two,
        &three,
        "owner/0000000000000003.released.json",
        "owner/0000000000000013.json",
        "owner/README",
    ];
    assert_eq!(names, left);
    assert_eq!(client.look(soon()).await.unwrap().unwrap().claim.epoch, epoch(19));
}

/// Other names below `owner/` are nobody's claim, and the newest of many epochs is found.
pub async fn the_newest_claim_is_found(store: Subject) {
    for name in ["owner/README", "owner/ffffffffffffffff.json", "owner/0000000000000fff.json.bak"] {
        store.put(name, "x".into(), soon()).await.unwrap();
    }
    let client = Client::new(Arc::clone(&store));
    for number in [1, 2, 9, 16, 17] {
        assert!(client.claim(&claim(number, "a"), soon()).await.unwrap());
    }
    assert_eq!(client.look(soon()).await.unwrap().unwrap().claim.epoch, epoch(17));
    let listed: Result<Vec<_>, StoreError> = store.list("owner/", soon()).await;
    assert_eq!(listed.unwrap().len(), 8);
}

/// Of two epochs; the last two of each are kept.
pub async fn heartbeats_are_seen(store: Subject) {
    let client = Client::new(store);
    let seen = async |beat| {
        let watch = Watch { beat_of: Some(beat), ..Watch::default() };
        client.watch(watch, soon()).await.unwrap().beat
    };
    assert_eq!(seen(Beat::Newest(epoch(1))).await, None);
    for number in 1..=2 {
        assert!(client.claim(&claim(number, "a"), soon()).await.unwrap());
        for beat in 1..=3 + number {
            client.beat(epoch(number), beat, soon()).await.unwrap();
        }
    }
    // The reply was lost, and it is written again.
    client.beat(epoch(2), 5, soon()).await.unwrap();
    assert_eq!(seen(Beat::Newest(epoch(1))).await, Some(4));
    assert_eq!(seen(Beat::Newest(epoch(2))).await, Some(5));
    assert_eq!(seen(Beat::Newest(epoch(3))).await, None);
    for (number, there) in [(3, None), (4, Some(4)), (5, Some(5)), (6, None)] {
        assert_eq!(seen(Beat::Number(epoch(2), number)).await, there, "{number}");
    }
    assert_eq!(client.look(soon()).await.unwrap().unwrap().claim.epoch, epoch(2));
}
