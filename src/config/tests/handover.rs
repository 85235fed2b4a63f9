//! `[handover]`: off by default, every key, what is refused.

use super::*;
use crate::handover::HandoverSettings;

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
    };
    let text = with_handover("enabled = true\nwait = \"5s\"\npoll = \"500ms\"\ntrial = \"7s\"");
    let config = read(&text);
    assert_eq!(config.handover, Some(expected));
    let shown = show::show(&config);
    assert!(shown.contains("[handover]\nenabled = true\nwait = \"5s\"\npoll = \"500ms\"\ntrial = \"7s\"\n"), "{shown}");
    let alone = read(&with_handover("enabled = \"never\""));
    assert!(show::show(&alone).contains("[handover]\nenabled = \"never\"\n"));
    assert_eq!(alone.handover, Some(HandoverSettings { claims: false, ..HandoverSettings::DEFAULT }));
    let never = read(&with_handover("enabled = true\npoll = \"never\""));
    assert!(show::show(&never).contains("poll = \"never\""));
    assert_eq!(never.handover, Some(HandoverSettings { poll: None, ..HandoverSettings::DEFAULT }));
}

#[test]
fn it_is_off_by_default() {
    for text in [with_replica("url = \"/r\""), with_handover("wait = \"5s\""), with_handover("enabled = false")] {
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
        (with_handover("pol = \"2s\""), "handover.pol is an unknown key, did you mean \"poll\"?"),
        ("[handover]\nenabled = true\n".to_owned(), "handover.enabled needs a [[database]]"),
    ] {
        let found = World::default().parse(&text, Purpose::Check).unwrap_err().to_string();
        assert!(found.contains(told), "{found}");
    }
}
