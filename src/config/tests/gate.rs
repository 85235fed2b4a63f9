//! `[[gate]]` and `--gate`: addresses, every key, what excludes each other, and the app's PORT.

use super::*;
use crate::gate::{Accept, AppAddress, GateSettings, ListenAddress, OnFailure};

fn with_gate(keys: &str) -> String {
    format!("{}[[gate]]\n{keys}\n", with_replica("url = \"/r\""))
}

fn gates(keys: &str) -> Vec<GateSettings> {
    read(&with_gate(keys)).gates
}

#[test]
fn every_key_arrives() {
    let keys = "listen = \"unix:run/gate\"\napp = \"10.0.0.7:81\"\naccept = \"early\"\ntimeout = \"5s\"\n\
                on_failure = \"pass\"\nmin_interval = \"250ms\"\nmax_connections = 7\nproxy_protocol = true\n\
                set_port = true";
    let expected = GateSettings {
        listen: ListenAddress::Unix("/srv/run/gate".into()),
        app: AppAddress::Tcp(vec!["10.0.0.7:81".parse().unwrap()]),
        accept: Accept::Early,
        timeout: Duration::from_secs(5),
        on_failure: OnFailure::Pass,
        min_interval: Duration::from_millis(250),
        max_connections: 7,
        proxy_protocol: true,
        set_port: Some(true),
    };
    assert_eq!(gates(keys), [expected]);
}

#[test]
fn addresses() {
    for (listen, app, shown) in [
        (":8080", "3000", "[::]:8080 localhost:3000"),
        ("8080", "127.0.0.1:3000", "[::]:8080 127.0.0.1:3000"),
        ("localhost:8080", "localhost:3000", "127.0.0.1:8080 localhost:3000"),
        ("0.0.0.0:80", "[::1]:81", "0.0.0.0:80 [::1]:81"),
        ("unix:/run/gate", "unix:/run/app", "unix:/run/gate unix:/run/app"),
        ("127.0.0.1:3000", "127.0.0.2:3000", "127.0.0.1:3000 127.0.0.2:3000"),
    ] {
        let found = gates(&format!("listen = \"{listen}\"\napp = \"{app}\""));
        assert_eq!(format!("{} {}", found[0].listen, found[0].app), shown);
        let again = gates(&format!("listen = \"{}\"\napp = \"{}\"", found[0].listen, found[0].app));
        assert_eq!(again, found, "what is shown can be read");
    }
}

#[test]
fn the_command_line_and_the_variable_that_platforms_set() {
    let mut world = World::default();
    world.env.insert("PORT", "8080");
    let additions =
        Additions { gates: vec![":8081=3001".into(), "unix:/s=unix:/app".into()], ..Additions::default() };
    let text = with_gate("listen = \"${PORT}\"\napp = \"3000\"");
    let parsed = |additions: &Additions| {
        world.with(|environment| {
            parse(Some((&text, Path::new("s.toml"))), additions, Purpose::Check, environment)
        })
    };
    let config = parsed(&additions).unwrap().config;
    let listens: Vec<String> = config.gates.iter().map(|gate| gate.listen.to_string()).collect();
    assert_eq!((listens.join(" "), config.app_port), ("[::]:8080 [::]:8081 unix:/s".into(), Some(3000)));
    for (gate, told) in [
        ("8080", "--gate is no gate (\"8080\"): write LISTEN=APP, for example :8080=3000"),
        ("x=3000", "--gate LISTEN is no address (\"x\")"),
        (":1=x", "--gate APP has no port between 1 and 65535 (\"x\"): write the app's port"),
        (":8080=3000", "--gate is the address of another gate already (line 6)"),
    ] {
        let found =
            parsed(&Additions { gates: vec![gate.into()], ..Additions::default() }).unwrap_err().to_string();
        assert!(found.starts_with(told), "{found}");
    }
}

#[test]
fn the_port_of_the_app() {
    let port = |port: Option<&'static str>, head: &str, keys: &str| {
        let mut world = World::default();
        world.env.extend(port.map(|port| ("PORT", port)));
        let text = format!("[app]\ncommand = [\"x\"]\n{head}\n{}", with_gate(keys));
        let config = world.parse(&text, Purpose::Run).unwrap().config;
        assert_eq!(show::show(&config).contains("# the app's PORT: "), config.app_port.is_some());
        config.app_port
    };
    let one = "listen = \":8080\"\napp = \"3000\"";
    let two = format!("listen = \":9000\"\napp = \"3001\"\n[[gate]]\n{one}");
    for (own, head, keys, expected) in [
        (None, "", one, None),
        (Some("8080"), "", one, Some(3000)),
        (Some("1"), "", one, Some(3000)),
        (Some("8080"), "env = { PORT = \"5\" }", one, None),
        (Some("8080"), "", &format!("{one}\nset_port = false"), None),
        (None, "", &format!("{one}\nset_port = true"), Some(3000)),
        (Some("8080"), "", &two, Some(3000)),
        (Some("9000"), "", &two, Some(3001)),
        (Some("1"), "", &two, None),
        (Some("8080"), "", &format!("set_port = true\n{two}"), Some(3001)),
        (Some("8080"), "", "listen = \":8080\"\napp = \"unix:/app\"", None),
    ] {
        assert_eq!(port(own, head, keys), expected, "{own:?} {head} {keys}");
    }
}

#[test]
fn problems_name_file_line_and_key() {
    let gate = "listen = \":8080\"\napp = \"3000\"";
    for (text, expected) in [
        (
            format!("[[gate]]\n{gate}"),
            "s.toml:1: gate needs a [[database]]: without one there is no answer to hold",
        ),
        (
            with_gate("app = \"3000\""),
            "s.toml:5: gate has no listen: add one, for example listen = \":8080\"",
        ),
        (
            with_gate("listen = \":8080\""),
            "s.toml:5: gate has no app: add one, for example app = \"127.0.0.1:3000\"",
        ),
        (with_gate("lisen = \":1\""), "s.toml:6: gate.lisen is an unknown key, did you mean \"listen\"?"),
        (with_gate("listen = \"x:1\"\napp = \"3000\""), "s.toml:6: gate.listen is no address (\"x:1\")"),
        (with_gate("listen = \"unix:\"\napp = \"3000\""), "s.toml:6: gate.listen names no file (\"unix:\")"),
        (
            with_gate("listen = \":8080\"\napp = \"web:80\""),
            "s.toml:7: gate.app must name an IP address or localhost (\"web:80\"): write the app's port, \
             \"127.0.0.1:3000\", or \"unix:/path\"",
        ),
        (
            with_gate(&format!("{gate}\n[[gate]]\nlisten = \"127.0.0.1:8080\"\napp = \"3001\"")),
            "s.toml:9: gate.listen is the address of another gate already (line 6)",
        ),
        (
            with_gate("listen = \":8080\"\napp = \"8080\""),
            "s.toml:7: gate.app is the gate's own address: the app must listen on another one",
        ),
        (
            with_gate("listen = \"unix:/s\"\napp = \"unix:/s\""),
            "s.toml:7: gate.app is the gate's own address: the app must listen on another one",
        ),
        (
            with_gate(&format!("{gate}\n[status]\nlisten = \"127.0.0.1:8080\"")),
            "s.toml:6: gate.listen is the address of [status] listen already",
        ),
        (
            with_gate("listen = \":8080\"\napp = \"unix:/s\"\nset_port = true"),
            "s.toml:8: gate.set_port needs an app with a port: this one has a Unix socket",
        ),
        (
            with_gate(&format!(
                "{gate}\nset_port = true\n[[gate]]\nlisten = \":1\"\napp = \"2\"\nset_port = true"
            )),
            "s.toml:12: gate.set_port is true for another gate already (line 8): the app has one PORT",
        ),
        (
            with_gate(&format!("{gate}\ntimeout = \"1ms\"")),
            "s.toml:8: gate.timeout must be between 10ms and 24h",
        ),
        (
            with_gate(&format!("{gate}\non_failure = \"clse\"")),
            "s.toml:8: gate.on_failure cannot be \"clse\", did you mean \"close\"? (one of close, pass)",
        ),
        (
            format!("{}[gate]\n{gate}", with_replica("url = \"/r\"")),
            "s.toml:5: gate must be an array of tables: write [[gate]] with two brackets, not a table",
        ),
    ] {
        let told = problems(&text);
        assert!(told.iter().any(|line| line.starts_with(expected)), "{text}\n{told:#?}");
    }
    let long = problems(&with_gate(&format!("listen = \"unix:/{}\"\napp = \"1\"", "x".repeat(110))));
    assert!(long[0].contains("107 bytes"), "{long:?}");
}
