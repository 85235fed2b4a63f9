//! Where keys come from when the settings have none: the SDK's chain, each source in a process with an environment of its
//! own (this test binary again, with one ignored test).

use crate::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};
use crate::{fresh_path, soon};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

const ENDPOINT: &str = "LITEVISOR_TEST_ENDPOINT";
const PROFILE: &str = "LITEVISOR_TEST_PROFILE";

/// Lists an empty replica; says what came of it on a line of its own.
#[test]
#[ignore = "run by the other tests here, in a process of its own"]
fn child() {
    let mut settings = Seaweed::settings_for(&std::env::var(ENDPOINT).unwrap(), crate::BUCKET, "credentials");
    (settings.s3.access_key_id, settings.s3.secret_access_key) = (None, None);
    settings.s3.profile = std::env::var(PROFILE).ok();
    let store = litevisor::store::open(&settings).unwrap();
    match crate::seaweed::block_on(store.list("", soon())) {
        Ok(objects) => println!("\nRESULT {} objects", objects.len()),
        Err(error) => println!("\nRESULT {:?} {error}", error.kind),
    }
}

fn in_a_process(env: &[(&str, &str)]) -> String {
    let _ = fresh_path("credentials");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "credentials::child", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(ENDPOINT, Seaweed::shared().endpoint())
        .envs(env.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    result.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[test]
fn keys_come_from_the_environment() {
    let right = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    assert_eq!(in_a_process(&right), "0 objects");
    let wrong = in_a_process(&[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", "wrong")]);
    assert!(wrong.starts_with("Denied "), "{wrong}");
}

#[test]
fn keys_come_from_the_profile_that_was_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let text = format!(
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\n\
         [backup]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    assert_eq!(in_a_process(&[file, (PROFILE, "backup")]), "0 objects");
    let default = in_a_process(&[file]);
    assert!(default.starts_with("Denied "), "{default}");
}

/// ECS and EKS give a container its role through such an address.
#[test]
fn keys_come_from_the_containers_role() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/role", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let body = serde_json::json!({
            "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": "", "Expiration": "2099-01-01T00:00:00Z",
        })
        .to_string();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    let result = in_a_process(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &address)]);
    assert_eq!(result, "0 objects");
}

#[test]
fn no_keys_anywhere_is_said_so() {
    let result = in_a_process(&[]);
    assert!(result.starts_with("Denied ") && result.contains("no credentials found"), "{result}");
}
