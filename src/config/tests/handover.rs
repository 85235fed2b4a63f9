//! `[handover]`: off by default, every key, what is refused.

use super::*;
use crate::handover::HandoverSettings;
use crate::store::{Scheme, StoreSettings};

fn with_handover(keys: &str) -> String {
    format!("{}[handover]\n{keys}\n", with_replica("url = \"/r\""))
}

#[test]
fn every_key_arrives() {
    let expected = HandoverSettings {
        claims: true,
        wait: Duration::from_secs(5),
        poll: Some(Duration::from_millis(500)),
        trial: Duration::from_secs(7),
        standby: true,
        heartbeat: Some(Duration::from_secs(3)),
        records: Some(StoreSettings::new(Scheme::File, "file:///o".into(), String::new(), "/o".into())),
    };
    let keys = "enabled = true\nwait = \"5s\"\npoll = \"500ms\"\ntrial = \"7s\"\n";
    let text = with_handover(&format!("{keys}url = \"/o\"\nstandby = true\nheartbeat = \"3s\""));
    let config = read(&text);
    assert_eq!(config.handover, Some(expected));
    let shown = show::show(&config);
    assert!(
        shown.contains(
            "[handover]\nenabled = true\nwait = \"5s\"\npoll = \"500ms\"\ntrial = \"7s\"\nstandby = \
             true\nheartbeat = \"3s\"\nurl = \"file:///o\"\n"
        ),
        "{shown}"
    );
    let alone = read(&with_handover("enabled = \"never\""));
    assert!(show::show(&alone).contains("[handover]\nenabled = \"never\"\n"));
    assert_eq!(alone.handover, Some(HandoverSettings { claims: false, ..HandoverSettings::DEFAULT }));
    let never = read(&with_handover("enabled = true\npoll = \"never\""));
    assert!(show::show(&never).contains("poll = \"never\""));
    assert_eq!(never.handover, Some(HandoverSettings { poll: None, ..HandoverSettings::DEFAULT }));
}

/// Where the replica's keys hold for the records, and where they do not.
#[test]
fn the_records_are_elsewhere() {
    let keys = "endpoint = \"http://h:1\"\nregion = \"r\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"";
    for (url, place, is_same) in [
        ("s3://c/owners", ("c", "owners", Some("http://h:1"), Some("r")), true),
        ("s3://c/owners?region=q", ("c", "owners", Some("http://h:1"), Some("q")), true),
        ("s3://c/owners?endpoint=http://h:1", ("c", "owners", Some("http://h:1"), Some("r")), true),
        ("s3://c/owners?endpoint=http://h:2", ("c", "owners", Some("http://h:2"), None), false),
        ("gs://c/owners", ("c", "owners", None, None), false),
    ] {
        let text = with_replica(&format!("url = \"s3://b/x\"\n{keys}"));
        let config = read(&format!("{text}[handover]\nenabled = true\nurl = \"{url}\"\n"));
        let records = config.owner_records()[0];
        let found =
            (&*records.bucket, &*records.path, records.endpoint.as_deref(), records.s3.region.as_deref());
        assert_eq!(found, place, "{url}");
        let replica = &config.databases[0].replica.s3;
        assert_eq!(records.s3.secret_access_key == replica.secret_access_key, is_same, "{url}");
    }
    let config = read(&with_handover("enabled = true"));
    assert_eq!(config.owner_records(), [&config.databases[0].replica]);
    assert_eq!(read(&with_handover("url = \"/o\"")).owner_records().first(), None);
}

#[test]
fn it_is_off_by_default() {
    for text in
        [with_replica("url = \"/r\""), with_handover("wait = \"5s\""), with_handover("enabled = false")]
    {
        let config = read(&text);
        assert_eq!(config.handover, None, "{text}");
        assert!(show::show(&config).contains("[handover]\nenabled = false\n"));
    }
}

#[test]
fn what_is_refused() {
    for (text, told) in [
        (with_handover("poll = \"0s\""), "handover.poll must be between 100ms and 1h, or \"never\""),
        (with_handover("poll = \"x\""), "handover.poll"),
        (with_handover("enabled = \"always\""), "handover.enabled must be true, false or \"never\""),
        (with_handover("enabled = 1"), "handover.enabled must be true, false or a word, not an integer"),
        (with_handover("wait = \"0s\""), "handover.wait"),
        (with_handover("url = \"ftp://x/y\""), "handover.url has the unknown scheme"),
        (with_handover("url = \"sftp://u:hunter2@h/x\""), "handover.url holds a password"),
        (with_handover("pol = \"2s\""), "handover.pol is an unknown key, did you mean \"poll\"?"),
        (with_handover("heartbeat = \"10ms\""), "handover.heartbeat must be between 1s and 1h, or \"never\""),
        (
            with_handover(
                "standby = true\n[[gate]]\nlisten = \":80\"\napp = \"127.0.0.1:3000\"\naccept = \"early\"",
            ),
            "handover.standby needs accept = \"ready\"",
        ),
        (
            with_handover("heartbeat = \"5s\"")
                .replace("[database.replica]", "retention = { enabled = false }\n[database.replica]"),
            "handover.heartbeat needs the first database's retention",
        ),
        ("[handover]\nenabled = true\n".to_owned(), "handover.enabled needs a [[database]]"),
    ] {
        let found = World::default().parse(&text, Purpose::Check).unwrap_err().to_string();
        assert!(found.contains(told), "{found}");
    }
}
