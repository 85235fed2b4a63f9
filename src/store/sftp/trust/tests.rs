//! Every rule of the host key, on keys that ssh-keygen made.

use super::*;

const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
const ECDSA: &str = "ecdsa-sha2-nistp256 \
    AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBIP8cx3FqpStzzP54scb4OgA7jC+Qpwl0j/gBp3d3C1kArL0PaLdG1l1iiOYcAbgGaHRcU6LVXvXxLdO+O/HFuU=";

fn key(line: &str) -> PublicKey {
    PublicKey::from_openssh(line).unwrap()
}

fn from_file(host: &str, port: u16, text: &str) -> Trust {
    let mut trust = Trust::new(None, host, port);
    trust.add_known_hosts("hosts", text);
    trust
}

fn pinned(text: &str) -> Trust {
    Trust::new(Some(Expected::parse(text).unwrap()), "nas", 22)
}

#[test]
fn a_key_is_pinned_by_line_or_fingerprint() {
    let print = fingerprint(&key(ONE));
    for text in [
        ONE.to_owned(),
        format!("{ONE} root@nas"),
        format!("  {ONE}\n"),
        format!("nas {ONE}"),
        format!("[nas]:2222 {ONE}"),
        format!("# nas:22 SSH-2.0\n{OTHER}\n{ONE}"),
        print.clone(),
        format!("{print}="),
        format!("{print} root@nas (ED25519)"),
    ] {
        let trust = pinned(&text);
        assert_eq!(trust.check(&key(ONE)), Ok(()), "{text}");
        let message = trust.check(&key(ECDSA)).unwrap_err();
        assert!(
            message.contains("IS NOT THE ONE") && message.contains(&fingerprint(&key(ECDSA))),
            "{message}"
        );
        assert!(!trust.asks_files() && !trust.is_off());
    }
}

#[test]
fn only_the_word_any_asks_for_no_proof() {
    for text in ["any", " ANY "] {
        let trust = pinned(text);
        assert!(trust.is_off() && trust.check(&key(ONE)).is_ok());
    }
    for text in ["", "no", "# any", "SHA256:short", "MD5:aa:bb", "ssh-ed25519 AAAA", "any\nany"] {
        assert!(Expected::parse(text).unwrap_err().contains("ssh-keyscan"), "{text}");
    }
}

#[test]
fn hosts_are_found_as_ssh_finds_them() {
    for (host, port, hosts, found) in [
        ("nas", 22, "nas", true),
        ("NAS", 22, "nas", true),
        ("nas", 22, "other,nas", true),
        ("nas", 22, "nas2", false),
        ("nas", 2222, "[nas]:2222", true),
        ("nas", 2222, "nas", false),
        ("nas", 22, "[nas]:2222", false),
        ("nas.lan", 22, "*.lan", true),
        ("nas.lan", 22, "n?s.lan", true),
        ("nas.lan", 22, "*.lan,!nas.lan", false),
        ("nas.lan", 22, "!nas.lan,*", false),
        ("::1", 2222, "[::1]:2222", true),
        ("nas", 2222, "*", true),
    ] {
        let trust = from_file(host, port, &format!("{hosts} {ONE}\n"));
        assert_eq!(trust.check(&key(ONE)).is_ok(), found, "{host}:{port} {hosts}");
    }
}

#[test]
fn a_hashed_name_is_found() {
    // What `ssh-keygen -H` makes of a name, here of "example.com".
    let hashed = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak=";
    let text = format!("{hashed} {OTHER}\n");
    assert_eq!(from_file("example.com", 22, &text).check(&key(OTHER)), Ok(()));
    assert!(from_file("example.org", 22, &text).check(&key(OTHER)).unwrap_err().contains("not known"));
    for broken in ["|1|", "|1|x|y", "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=", "|2|a|b"] {
        assert!(from_file("example.com", 22, &format!("{broken} {OTHER}")).check(&key(OTHER)).is_err());
    }
}

#[test]
fn one_of_several_keys_is_enough_and_is_asked_for() {
    let trust = from_file("nas", 22, &format!("nas {ECDSA}\nother {ONE}\n"));
    assert_eq!(trust.check(&key(ECDSA)), Ok(()));
    assert_eq!(trust.algorithms().first(), Some(&key(ECDSA).algorithm()));
    let both = from_file("nas", 22, &format!("nas {ECDSA}\nnas {ONE} comment here\n"));
    assert!(both.check(&key(ECDSA)).is_ok() && both.check(&key(ONE)).is_ok());
    assert_eq!(pinned(ECDSA).algorithms().first(), Some(&key(ECDSA).algorithm()));
    // The others are still taken, so that the error names a changed key, and not a lack of algorithms.
    assert_eq!(trust.algorithms().len(), from_file("nas", 22, "").algorithms().len());
    assert!(!trust.algorithms().contains(&Algorithm::Rsa { hash: None }));
}

#[test]
fn a_fingerprint_is_looked_for_among_all_kinds() {
    let rounds = pinned(&fingerprint(&key(ECDSA))).rounds();
    assert_eq!(rounds.len(), 3);
    assert_eq!(rounds[0], [Algorithm::Ed25519]);
    assert!(rounds[1].contains(&key(ECDSA).algorithm()) && rounds[2].iter().all(is_rsa), "{rounds:?}");
    for trust in [pinned(ECDSA), pinned("any"), from_file("nas", 22, "")] {
        assert_eq!(trust.rounds(), [trust.algorithms()]);
    }
}

#[test]
fn an_unknown_host_is_refused_with_what_to_write() {
    let message = from_file("nas", 2222, &format!("nas {ONE}\n")).check(&key(ONE)).unwrap_err();
    let write = format!("host_key = \"{}\"", fingerprint(&key(ONE)));
    for part in [write.as_str(), "ssh-keyscan -p 2222 nas", "looked in: hosts", "nas:2222"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_changed_key_is_refused_loudly() {
    for shown in [OTHER, ECDSA] {
        let message =
            from_file("nas", 22, &format!("# hosts\n\nnas {ONE}\n")).check(&key(shown)).unwrap_err();
        assert!(message.contains("HAS CHANGED") && message.contains("hosts line 3"), "{message}");
    }
}

#[test]
fn a_revoked_key_is_refused_wherever_else_it_stands() {
    for text in [format!("nas {ONE}\n@revoked nas {ONE}\n"), format!("@revoked * {ONE}\nnas {ONE}\n")] {
        let message = from_file("nas", 22, &text).check(&key(ONE)).unwrap_err();
        assert!(message.contains("IS REVOKED"), "{message}");
    }
    // A revoked one alone makes no host known, and no other key wrong.
    let message = from_file("nas", 22, &format!("@revoked nas {ONE}\n")).check(&key(OTHER)).unwrap_err();
    assert!(message.contains("not known"), "{message}");
}

#[test]
fn what_is_no_line_is_skipped() {
    let text = format!(
        "#nas {ONE}\nnas\nnas ssh-ed25519\nnas sk-unknown AAAA\n\tnas\t{ONE}  \r\n@cert-authority nas \
         {OTHER}\n"
    );
    assert_eq!(from_file("nas", 22, &text).check(&key(ONE)), Ok(()));
    let message = from_file("nas", 22, &format!("@cert-authority * {OTHER}\n")).check(&key(ONE)).unwrap_err();
    assert!(message.contains("certificate authority"), "{message}");
}
