//! What the environment adds to the configuration, and what of it the app gets.

use super::*;

#[test]
fn the_app_does_not_inherit_credentials_unless_asked() {
    let mut world = World::default();
    world.env.extend([("TEBI_KEY", "a"), ("TEBI_SECRET", "b"), ("OTHER", "c")]);
    let keys =
        "access_key_id = \"${TEBI_KEY}\"\nsecret_access_key = \"${TEBI_SECRET:-x}\"\nregion = \"${OTHER}\"\n";
    let removed = |head: &str, replica: &str| {
        let text = format!("[app]\ncommand = [\"x\"]\n{head}\n{}", with_replica(replica));
        let app = world.parse(&text, Purpose::Run).unwrap().config.app.unwrap();
        app.env_remove.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let s3 = format!("url = \"s3://b/p\"\n{keys}");
    let usual = "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN LITESTREAM_ACCESS_KEY_ID \
                 LITESTREAM_SECRET_ACCESS_KEY";
    assert_eq!(removed("", &s3), format!("{usual} TEBI_KEY TEBI_SECRET"));
    assert_eq!(removed("", "url = \"s3://b/p\""), usual);
    assert_eq!(removed("pass_credentials = true", &s3), "");
    assert_eq!(removed("", "url = \"/backup\""), "", "the app's own keys stay");
    let given = removed("env = { AWS_ACCESS_KEY_ID = \"app's own\" }", "url = \"s3://b/p\"");
    assert!(!given.contains("AWS_ACCESS_KEY_ID"), "{given}");
}

#[test]
fn litestream_variables_are_the_last_resort() {
    let text = with_replica("url = \"s3://b/p\"");
    let id = |extra: &[(&'static str, &'static str)], text: &str| {
        let mut world = World::default();
        world.env.extend([("LITESTREAM_ACCESS_KEY_ID", "L"), ("LITESTREAM_SECRET_ACCESS_KEY", "LS")]);
        world.env.extend(extra.iter().copied());
        world.parse(text, Purpose::Databases).unwrap().config.databases.remove(0).replica.s3.access_key_id
    };
    assert_eq!(id(&[], &text).as_deref(), Some("L"));
    assert_eq!(id(&[("AWS_ACCESS_KEY_ID", "A")], &text), None);
    assert_eq!(id(&[], &format!("{text}profile = \"p\"\n")), None);
    let own = format!("{text}access_key_id = \"O\"\nsecret_access_key = \"OS\"\n");
    assert_eq!(id(&[], &own).as_deref(), Some("O"));
    assert_eq!(id(&[], &with_replica("url = \"/backup\"")), None);
}

#[test]
fn the_endpoint_may_come_from_the_environment() {
    let endpoint = |extra: &[(&'static str, &'static str)], text: &str| {
        let mut world = World::default();
        world.env.extend(extra.iter().copied());
        world
            .parse(&with_replica(text), Purpose::Databases)
            .unwrap()
            .config
            .databases
            .remove(0)
            .replica
            .endpoint
    };
    let (general, own) = (("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_S3", "http://b"));
    assert_eq!(endpoint(&[], "url = \"s3://b/p\""), None);
    assert_eq!(endpoint(&[general], "url = \"s3://b/p\"").as_deref(), Some("http://a"));
    assert_eq!(endpoint(&[general, own], "url = \"s3://b/p\"").as_deref(), Some("http://b"));
    assert_eq!(endpoint(&[own], "url = \"s3://b/p?endpoint=http://c\"").as_deref(), Some("http://c"));
    assert_eq!(endpoint(&[own], "url = \"/backup\""), None);
}
