//! The records of `owner/`: they round-trip, and hostile content is refused.

use super::*;

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn instance(id: &str) -> Instance {
    Instance { id: id.into(), host: "pod-7".into(), revision: Some("r2".into()) }
}

fn positions() -> Positions {
    let at = |txid, checksum| Position { txid: Txid(txid), checksum };
    let known = DbChecksum::from_header(1 << 63 | 9);
    BTreeMap::from([("/data/a.db".to_owned(), at(0x2a, known)), ("/data/b.db".to_owned(), at(0, None))])
}

fn claim() -> Claim {
    Claim {
        epoch: epoch(7),
        instance: instance("a"),
        reason: Reason::Resume,
        failed: Some(instance("b")),
        positions: positions(),
        gated: true,
        heartbeat: Some(Duration::from_secs(10)),
        version: "0.2.0".into(),
    }
}

fn release(end: End) -> Release {
    Release {
        epoch: epoch(7),
        instance: instance("a"),
        how: How::FailedStart,
        end,
        from: Some(epoch(6)),
        time_ms: 1_795_327_279_453,
    }
}

#[test]
fn records_round_trip() {
    let start = Claim {
        reason: Reason::Start,
        failed: None,
        positions: Positions::new(),
        heartbeat: None,
        ..claim()
    };
    for claim in [claim(), start] {
        assert_eq!(Claim::parse(claim.to_text().unwrap().as_bytes(), epoch(7)).unwrap(), claim);
    }
    for end in [End::At(positions()), End::At(Positions::new()), End::Unproven, End::Untouched] {
        let release = release(end);
        assert_eq!(Release::parse(release.to_text().unwrap().as_bytes(), epoch(7)).unwrap(), release);
    }
    let answer = Answer { epoch: epoch(7), within: Duration::from_millis(8500) };
    assert_eq!(Answer::parse(answer.to_text().unwrap().as_bytes(), epoch(7)).unwrap(), answer);
}

#[test]
fn a_later_version_may_add_fields_and_words() {
    let text = release(End::Unproven).to_text().unwrap();
    let later = text.replace(r#""how":"failed-start""#, r#""how":"evicted","new_field":{"a":[1]}"#);
    assert_ne!(later, text);
    assert_eq!(Release::parse(later.as_bytes(), epoch(7)).unwrap().how, How::Other);
}

#[test]
fn a_promise_has_a_limit() {
    let text = r#"{"version":1,"epoch":"0000000000000007","within_ms":18446744073709551615}"#;
    assert_eq!(Answer::parse(text.as_bytes(), epoch(7)).unwrap().within, LONGEST_ANSWER);
}

#[test]
fn what_is_torn_or_contradicts_itself_is_refused() {
    let (claim, release) = (claim().to_text().unwrap(), release(End::At(positions())).to_text().unwrap());
    for length in 0..claim.len() {
        assert!(Claim::parse(&claim.as_bytes()[..length], epoch(7)).is_err());
    }
    assert!(Claim::parse(claim.as_bytes(), epoch(8)).is_err(), "the object's name says another epoch");
    let long = "x".repeat(MOST_NAME + 1);
    for (from, to) in [
        (r#""version":1"#, r#""version":2"#),
        (r#""reason":"resume""#, r#""reason":"whim""#),
        (r#""id":"a""#, r#""id":"""#),
        (r#""id":"b""#, r#""id":"\u0007""#),
        ("pod-7", long.as_str()),
        ("0.2.0", long.as_str()),
        ("000000000000002a", "2a"),
        ("000000000000002a", "ffffffffffffffff"),
        ("8000000000000009", "0000000000000009"),
    ] {
        let bad = claim.replace(from, to);
        assert_ne!(bad, claim);
        assert!(Claim::parse(bad.as_bytes(), epoch(7)).is_err(), "{bad}");
    }
    for (from, to) in [
        (r#""end":"at""#, r#""end":"here""#),
        (r#""from":"0000000000000006""#, r#""from":"0000000000000007""#),
        (r#""from":"0000000000000006""#, r#""from":"6""#),
        (r#""how":"failed-start""#, r#""how":7"#),
    ] {
        let bad = release.replace(from, to);
        assert_ne!(bad, release);
        assert!(Release::parse(bad.as_bytes(), epoch(7)).is_err(), "{bad}");
    }
}
