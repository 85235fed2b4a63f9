//! `[follow]`: off by default, every key, what is refused.

use super::*;

fn with_follow(keys: &str) -> String {
    format!("{}[follow]\n{keys}\n", with_replica("url = \"/r\""))
}

#[test]
fn every_key_arrives() {
    let expected = FollowSettings { poll: Duration::from_millis(500), max_lag: Duration::from_secs(7) };
    let config = read(&with_follow("enabled = true\npoll = \"500ms\"\nmax_lag = \"7s\""));
    assert_eq!(config.follow, Some(expected));
    let shown = show::show(&config);
    assert!(shown.contains("[follow]\nenabled = true\npoll = \"500ms\"\nmax_lag = \"7s\"\n"), "{shown}");
    assert_eq!(read(&with_follow("enabled = true")).follow, Some(FollowSettings::DEFAULT));
}

#[test]
fn it_is_off_until_the_file_or_the_command_line_asks_for_it() {
    for text in [with_replica("url = \"/r\""), with_follow("poll = \"5s\""), with_follow("enabled = false")] {
        let config = read(&text);
        assert_eq!(config.follow, None, "{text}");
        assert!(show::show(&config).contains("[follow]\nenabled = false\n"));
    }
    let asked = Additions { follow: true, ..Additions::default() };
    let parsed = |text: &str| {
        let read = |environment: Environment<'_>| {
            parse(Some((text, Path::new("s.toml"))), &asked, Purpose::Check, environment)
        };
        World::default().with(read)
    };
    let config = parsed(&with_follow("poll = \"5s\"")).unwrap().config;
    assert_eq!(
        config.follow,
        Some(FollowSettings { poll: Duration::from_secs(5), ..FollowSettings::DEFAULT })
    );
    assert!(parsed("").unwrap_err().to_string().contains("--follow needs a [[database]]"));
}

#[test]
fn what_is_refused() {
    for (text, told) in [
        (with_follow("poll = \"1ms\""), "follow.poll must be between"),
        (with_follow("poll = \"10s\"\nmax_lag = \"10s\""), "max_lag must be longer than poll"),
        (with_follow("pol = \"1s\""), "did you mean \"poll\""),
        ("[follow]\nenabled = true\n".to_owned(), "follow.enabled needs a [[database]]"),
    ] {
        let found = World::default().parse(&text, Purpose::Check).unwrap_err().to_string();
        assert!(found.contains(told), "{found}");
    }
}
