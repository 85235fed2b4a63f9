//! Which hosts are believed, and who is let in.

use super::{fresh, open};
use crate::suite::{soon, whole};
use crate::support::sshd::{Guest, KINDS, Sshd, keygen};
use litevisor::testing::model::Secret;
use litevisor::testing::store::{Put, StoreError, StoreErrorKind, StoreSettings};
use std::path::PathBuf;
use std::process::Command;

async fn works(settings: &StoreSettings) {
    let put = open(settings).put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap();
    assert_eq!(put, Put::Created);
}

/// Every kind of call says the same.
async fn is_denied(settings: &StoreSettings, told: &str) -> StoreError {
    let store = open(settings);
    let error = store.put_new("ltx/0/a.ltx", whole("x"), 0, soon()).await.unwrap_err();
    for error in
        [&error, &store.list("", soon()).await.unwrap_err(), &store.get("a", None, soon()).await.unwrap_err()]
    {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains(told), "{error}");
    }
    error
}

#[tokio::test]
async fn every_kind_of_host_key_can_be_pinned() {
    let server = Sshd::shared();
    for kind in KINDS {
        for pin in [server.host_key(kind), server.fingerprint(kind)] {
            let mut settings = server.settings(&fresh("pinned"));
            settings.sftp.host_key = Some(pin);
            works(&settings).await;
        }
    }
    let mut settings = server.settings("x");
    for other in [Sshd::start().host_key("ed25519"), Sshd::start().fingerprint("rsa")] {
        settings.sftp.host_key = Some(other);
        is_denied(&settings, "IS NOT THE ONE").await;
    }
    for kind in KINDS {
        let alone = Sshd::with("Subsystem sftp internal-sftp\n", &[kind]);
        let mut settings = alone.settings("x");
        settings.sftp.host_key = Some(alone.fingerprint(kind));
        works(&settings).await;
    }
}

#[tokio::test]
async fn known_hosts_decide() {
    let server = Sshd::start();
    let other = Sshd::start();
    let file = |name: &str, text: &str| {
        let path = server.file(&format!("known-{name}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    let at = format!("[127.0.0.1]:{}", server.port());
    let with = |path: PathBuf| {
        let mut settings = server.settings(&fresh("known"));
        (settings.sftp.host_key, settings.sftp.known_hosts_file) = (None, Some(path));
        settings
    };
    for kind in KINDS {
        works(&with(file(kind, &format!("{at} {}\n", server.host_key(kind))))).await;
    }
    let hashed = file(
        "hashed",
        &format!("example.com {}\n{at} {}\n", other.host_key("rsa"), server.host_key("ecdsa")),
    );
    keygen(&["-H", "-f", hashed.to_str().unwrap()]);
    assert!(!std::fs::read_to_string(&hashed).unwrap().contains("127.0.0.1"));
    works(&with(hashed)).await;
    let scanned =
        Command::new("ssh-keyscan").args(["-p", &server.port().to_string(), "127.0.0.1"]).output().unwrap();
    works(&with(file("scanned", &String::from_utf8(scanned.stdout).unwrap()))).await;

    let unknown =
        is_denied(&with(file("unknown", &format!("127.0.0.1 {}\n", server.host_key("rsa")))), "not known")
            .await;
    let write = format!("host_key = \"{}\"", server.fingerprint("ed25519"));
    assert!(unknown.detail.contains(&write), "{unknown}");
    let mut told = with(file("none", ""));
    told.sftp.host_key = Some(server.fingerprint("ed25519"));
    told.sftp.known_hosts_file = None;
    works(&told).await;

    for kind in KINDS {
        let text = format!("# a comment\n{at} {}\n", other.host_key(kind));
        let changed = is_denied(&with(file("changed", &text)), "HAS CHANGED").await;
        assert!(changed.detail.contains("known-changed line 2"), "{changed}");
    }
    let text = format!("{at} {0}\n@revoked * {0}\n", server.host_key("ed25519"));
    is_denied(&with(file("revoked", &text)), "IS REVOKED").await;
    is_denied(&with(server.file("nowhere")), "cannot read known_hosts_file").await;
    // None of those who were refused came as far as a login: there are as many of them as files that work,
    // and one pin.
    assert_eq!(server.log().matches("Accepted publickey").count(), KINDS.len() + 3, "{}", server.log());
}

#[tokio::test]
async fn the_word_any_takes_any_host() {
    let mut settings = Sshd::shared().settings(&fresh("any"));
    settings.sftp.host_key = Some("any".to_owned());
    works(&settings).await;
}

#[tokio::test]
async fn keys_of_every_kind_and_format_log_in() {
    let server = Sshd::shared();
    let copy = |kind: &str, format: &[&str], passphrase: &str, name: &str| {
        let path = server.file(name);
        std::fs::copy(server.file(&format!("id_{kind}")), &path).unwrap();
        let mut arguments = vec!["-p", "-P", "", "-N", passphrase, "-f", path.to_str().unwrap()];
        arguments.extend(format);
        keygen(&arguments);
        path
    };
    let with = |path: PathBuf, passphrase: Option<&str>| {
        let mut settings = server.settings(&fresh("keys"));
        settings.sftp.key_file = Some(path);
        settings.sftp.key_passphrase = passphrase.map(Secret::new);
        settings
    };
    for kind in KINDS {
        works(&with(server.file(&format!("id_{kind}")), None)).await;
        // A passphrase that is not needed is no harm.
        works(&with(server.file(&format!("id_{kind}")), Some("hunter2"))).await;
        let encrypted = copy(kind, &[], "hunter2", &format!("locked_{kind}"));
        works(&with(encrypted.clone(), Some("hunter2"))).await;
        is_denied(&with(encrypted.clone(), None), "give key_passphrase").await;
        let wrong = is_denied(&with(encrypted, Some("hunter3")), "is key_passphrase right?").await;
        assert!(!format!("{wrong:?}").contains("hunter"), "{wrong:?}");
    }
    for (kind, format) in [("rsa", "PEM"), ("rsa", "PKCS8"), ("ecdsa", "PEM"), ("ecdsa", "PKCS8")] {
        works(&with(copy(kind, &["-m", format], "", &format!("{kind}_{format}")), None)).await;
    }
    for (kind, format) in [("rsa", "PKCS8"), ("ecdsa", "PKCS8"), ("rsa", "PEM")] {
        let locked = copy(kind, &["-m", format], "hunter2", &format!("locked_{kind}_{format}"));
        works(&with(locked.clone(), Some("hunter2"))).await;
        is_denied(&with(locked, None), "give key_passphrase").await;
    }
    is_denied(&with(server.file("id_rsa.pub"), None), "no private key").await;
    is_denied(&with(server.file("nowhere"), None), "cannot read key_file").await;
}

#[tokio::test]
async fn a_key_that_is_not_let_in_is_denied() {
    let server = Sshd::shared();
    let path = server.file("stranger");
    keygen(&["-t", "ed25519", "-N", "", "-f", path.to_str().unwrap()]);
    let mut settings = server.settings(&fresh("stranger"));
    settings.sftp.key_file = Some(path);
    let told = is_denied(&settings, "refused the login of user").await;
    assert!(told.detail.contains("stranger") && told.detail.contains("it takes: publickey"), "{told}");
    settings = server.settings(&fresh("nobody"));
    settings.sftp.user = "no-such-user".to_owned();
    is_denied(&settings, "\"no-such-user\"").await;
}

#[tokio::test]
async fn passwords_log_in_alone_and_behind_a_key() {
    let Some(guest) = Guest::new("password") else { return };
    let server = Sshd::shared();
    let root = fresh("password");
    guest.own(server.data(&root).parent().unwrap());
    let mut settings = server.settings(&root);
    settings.sftp.user = guest.name.clone();
    (settings.sftp.key_file, settings.sftp.password) = (None, Some(guest.password.clone()));
    works(&settings).await;
    settings.sftp.password = Some(Secret::new("hunter2"));
    let told = is_denied(&settings, "the password right").await;
    assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");

    let both = Sshd::with("Subsystem sftp internal-sftp\nAuthenticationMethods publickey,password\n", &KINDS);
    guest.own(both.data("x").parent().unwrap());
    let mut settings = both.settings("x");
    settings.sftp.user = guest.name.clone();
    is_denied(&settings, "it takes: password").await;
    settings.sftp.password = Some(guest.password.clone());
    works(&settings).await;
}

#[test]
fn nothing_is_read_and_nobody_is_asked_before_the_first_request() {
    let mut settings = Sshd::shared().settings("x");
    settings.sftp.key_file = Some("/nowhere/id".into());
    // No runtime is needed to open it.
    let store = open(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(store.list("", soon())).unwrap_err();
    assert!(error.detail.contains("/nowhere/id"), "{error}");
}
