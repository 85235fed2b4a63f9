//! The keys of encrypted replicas.

use super::*;

const OTHER: &str = "age1yk4yyvvfnp53xrqn3vsysed6gdjy3qmvt55cr0nfw7vywp9a8y2qq9rlcy";

fn replica(keys: &str) -> String {
    with_replica(&format!("url = \"/r\"\n{keys}"))
}

#[test]
fn keys_come_from_the_file_or_else_from_the_environment() {
    let mut world = World::default();
    world.env.insert("LITEVISOR_AGE_IDENTITIES", IDENTITY);
    let checked = world.parse(&replica(""), Purpose::Check).unwrap();
    let age = &checked.config.databases[0].replica.age;
    assert_eq!((age.identities.as_ref().map(Secret::reveal), &age.recipients), (Some(IDENTITY), &None));
    assert!(
        checked.secret_variables.contains(&"LITEVISOR_AGE_IDENTITIES".into()),
        "{:?}",
        checked.secret_variables
    );
    let shown = show::show(&checked.config);
    assert!(shown.contains("age_identities = \"***\"") && !shown.contains("AGE-SECRET"), "{shown}");
    // The environment is not mixed with keys that are written.
    world.env.extend([("LITEVISOR_AGE_RECIPIENTS", OTHER), ("K", IDENTITY)]);
    let checked = world.parse(&replica("age_identities = \"${K}\""), Purpose::Check).unwrap();
    assert_eq!(checked.config.databases[0].replica.age.recipients, None);
    assert!(checked.secret_variables.contains(&"K".into()), "{:?}", checked.secret_variables);
}

#[test]
fn wrong_keys_are_named_and_not_shown() {
    let mut world = World::default();
    world.env.extend([("K", IDENTITY), ("WRONG", "hunter2")]);
    world.files.insert("/srv/both", "# two\nhunter2\n");
    for (keys, expected) in [
        (
            "age_recipients = \"age1x\"",
            "s.toml:5: database.replica.age_recipients age_recipients need age_identities",
        ),
        (
            "age_identities = \"${WRONG}\"",
            "s.toml:5: database.replica.age_identities age: identity 1 is not an X25519",
        ),
        (
            "age_identities_file = \"both\"",
            "s.toml:5: database.replica.age_identities_file age: identity 1 is not an",
        ),
        (
            &format!("age_identities = \"${{K}}\"\nage_recipients = \"{OTHER}\""),
            "s.toml:5: database.replica.age_identities none of the age_identities belongs to one of the \
             age_recipients",
        ),
        ("age_identities = \"${K}\"\nage_identities_file = \"both\"", "keep one of the two"),
    ] {
        let told = world.parse(&replica(keys), Purpose::Check).unwrap_err().to_string();
        assert!(
            told.contains(expected) && !told.contains("hunter2") && !told.contains("AGE-SECRET-KEY-14"),
            "{told}"
        );
    }
}
