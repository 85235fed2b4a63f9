//! Where keys come from when the settings have none: the SDK's chain, each source in a process with an
//! environment of its own (this test binary again, with one ignored test), against stand-ins that check what
//! they are asked.

use super::common::{BUCKET, fresh_path, open, s3_settings};
use crate::suite::soon;
use crate::support::child::run_child;
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};
use crate::support::standin::{Answer, Request, StandIn, answer};
use litevisor::testing::model::Secret;
use litevisor::testing::store::StoreErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const ENDPOINT: &str = "LITEVISOR_TEST_ENDPOINT";
const PROFILE: &str = "LITEVISOR_TEST_PROFILE";
/// Lists again and again until this file is there.
const UNTIL: &str = "LITEVISOR_TEST_UNTIL";
const LIMIT: Duration = Duration::from_secs(60);
const FAR: &str = "2099-01-01T00:00:00Z";

/// Lists an empty replica; says what came of it on a line of its own.
#[test]
#[ignore = "run by the other tests here, in a process of its own"]
fn child() {
    let mut settings = Seaweed::settings_for(&std::env::var(ENDPOINT).unwrap(), BUCKET, "credentials");
    (settings.s3.access_key_id, settings.s3.secret_access_key) = (None, None);
    settings.s3.profile = std::env::var(PROFILE).ok();
    let until = std::env::var(UNTIL).ok();
    let store = litevisor::testing::store::open(&settings).unwrap();
    crate::support::seaweed::block_on(async {
        let limit = Instant::now() + LIMIT;
        while until.as_ref().is_some_and(|file| !Path::new(file).exists()) && Instant::now() < limit {
            let _ = store.list("", soon()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match store.list("", soon()).await {
            Ok(objects) => println!("\nRESULT {} objects", objects.len()),
            Err(error) => println!("\nRESULT {:?} {error}", error.kind),
        }
    });
}

/// `env` comes after what keeps the machine's own settings out.
fn in_a_process(env: &[(&str, &str)]) -> String {
    let _ = fresh_path("credentials");
    let endpoint = Seaweed::shared().endpoint();
    let own =
        [("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true"), (ENDPOINT, endpoint.as_ref())];
    run_child(module_path!(), &own, env)
}

/// What metadata services answer.
fn keys(id: &str, secret: &str, expiration: &str) -> Answer {
    let body = serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z",
        "AccessKeyId": id, "SecretAccessKey": secret, "Token": "", "Expiration": expiration,
    });
    answer(200, body.to_string())
}

/// What the token service answers; `action` is the name of the request.
fn assumed(action: &str) -> Answer {
    let credentials = format!(
        "<Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
         <SessionToken></SessionToken><Expiration>{FAR}</Expiration></Credentials>"
    );
    answer(
        200,
        format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{credentials}\
             <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>a:b</AssumedRoleId>\
             </AssumedRoleUser></{action}Result></{action}Response>"
        ),
    )
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

/// A profile that is a role, assumed with the keys of another one.
#[test]
fn keys_come_from_a_role_that_a_profile_assumes() {
    let sts = StandIn::start(|request| {
        let asked = ["Action=AssumeRole&", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fbackup"];
        let signed = request.header("authorization").is_some_and(|text| text.contains("Credential=BASE/"));
        let right =
            request.method == "POST" && signed && asked.iter().all(|part| request.body.contains(part));
        if right { assumed("AssumeRole") } else { answer(403, "wrong") }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    let text = "[profile base]\naws_access_key_id = BASE\naws_secret_access_key = base\n\
                [profile backup]\nregion = eu-west-1\nrole_arn = arn:aws:iam::1:role/backup\nsource_profile = base\n";
    std::fs::write(&file, text).unwrap();
    let env = [
        ("AWS_CONFIG_FILE", file.to_str().unwrap()),
        ("AWS_ENDPOINT_URL_STS", &sts.url()),
        (PROFILE, "backup"),
    ];
    assert_eq!(in_a_process(&env), "0 objects", "{:?}", sts.asked());
}

/// Kubernetes on AWS: a projected token is exchanged for a role's keys.
#[test]
fn keys_come_from_a_web_identity() {
    let sts = StandIn::start(|request| {
        let asked = [
            "Action=AssumeRoleWithWebIdentity&",
            "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fpod",
            "WebIdentityToken=projected.token",
        ];
        let right = request.method == "POST" && asked.iter().all(|part| request.body.contains(part));
        if right { assumed("AssumeRoleWithWebIdentity") } else { answer(403, "wrong") }
    });
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "projected.token").unwrap();
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/pod"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", &sts.url()),
    ];
    assert_eq!(in_a_process(&env), "0 objects", "{:?}", sts.asked());
}

/// ECS and EKS give a container its role through such an address, with a token in the environment or in a
/// file.
#[test]
fn keys_come_from_the_containers_role() {
    let agent = StandIn::start(|request| match (request.path.as_str(), request.header("authorization")) {
        ("/role", Some("Bearer let-me-in")) => keys(ACCESS_KEY, SECRET_KEY, FAR),
        _ => answer(401, "wrong"),
    });
    let address = format!("{}/role", agent.url());
    let uri = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", address.as_str());
    assert_eq!(in_a_process(&[uri, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer let-me-in")]), "0 objects");
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "Bearer let-me-in").unwrap();
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap());
    assert_eq!(in_a_process(&[uri, token]), "0 objects");
    let without = in_a_process(&[uri]);
    assert!(without.starts_with("Denied "), "{without}");
}

/// IMDSv2: a session first. Nobody asks it for the region.
#[test]
fn keys_come_from_the_machines_role() {
    const ROLES: &str = "/latest/meta-data/iam/security-credentials";
    let imds = StandIn::start(|request: &Request| {
        let session = request.header("x-aws-ec2-metadata-token") == Some("session");
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", "/latest/api/token")
                if request.header("x-aws-ec2-metadata-token-ttl-seconds").is_some() =>
            {
                let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "21600".to_owned());
                Answer { headers: vec![ttl], ..answer(200, "session") }
            }
            ("GET", path) if session && path.trim_end_matches('/') == ROLES => answer(200, "machine"),
            ("GET", path) if session && path == format!("{ROLES}/machine") => {
                keys(ACCESS_KEY, SECRET_KEY, FAR)
            }
            _ if session => answer(404, ""),
            _ => answer(401, ""),
        }
    });
    let env = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url()),
        ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
    ];
    let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(in_a_process(&env), "0 objects", "{:?}", imds.asked());
    let paths: Vec<String> = imds.take();
    assert!(!paths.iter().any(|path| path.contains("placement")), "{paths:?}");
}

/// A stand-in for the container's agent that gives `first` once and then `later`, and makes `file` when it is
/// asked again.
fn changing_agent(file: &Path, first: Answer, later: Answer) -> StandIn {
    let (times, file) = (AtomicU32::new(0), file.to_owned());
    StandIn::start(move |_| match times.fetch_add(1, Ordering::Relaxed) {
        0 => first.clone(),
        _ => {
            std::fs::write(&file, "").unwrap();
            later.clone()
        }
    })
}

#[test]
fn keys_are_renewed_before_they_expire() {
    let directory = tempfile::tempdir().unwrap();
    let again = directory.path().join("again");
    let soon = jiff::Timestamp::now() + Duration::from_secs(20);
    let agent = changing_agent(
        &again,
        keys(ACCESS_KEY, SECRET_KEY, &soon.to_string()),
        keys(ACCESS_KEY, SECRET_KEY, FAR),
    );
    let env =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url()), (UNTIL, again.to_str().unwrap().to_owned())];
    let result = in_a_process(&env.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(result, "0 objects");
    assert!(again.exists() && jiff::Timestamp::now() < soon, "renewed after they had ended, or never");
}

/// A role whose keys were revoked: they had long to live, but the store does not take them any more.
#[test]
fn keys_are_renewed_when_the_store_refuses_them() {
    let directory = tempfile::tempdir().unwrap();
    let again = directory.path().join("again");
    let agent = changing_agent(&again, keys(ACCESS_KEY, "revoked", FAR), keys(ACCESS_KEY, SECRET_KEY, FAR));
    let env =
        [("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.url()), (UNTIL, again.to_str().unwrap().to_owned())];
    let result = in_a_process(&env.each_ref().map(|(name, value)| (*name, value.as_str())));
    assert_eq!(result, "0 objects");
    assert_eq!(agent.asked().len(), 2, "no more often than needed");
}

#[tokio::test]
async fn key_files_that_are_replaced_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "old\n").unwrap();
    let mut settings = s3_settings(&fresh_path("rotated"));
    settings.s3.secret_access_key = Some(Secret::new("old"));
    settings.s3.key_files.secret_access_key = Some(file.clone());
    let store = open(&settings);
    assert_eq!(store.list("", soon()).await.unwrap_err().kind, StoreErrorKind::Denied);
    std::fs::write(&file, format!("{SECRET_KEY}\n")).unwrap();
    let limit = Instant::now() + LIMIT;
    while let Err(error) = store.list("", soon()).await {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(Instant::now() < limit, "the new key is not picked up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A file that is gone for a moment costs nothing: the keys that were read last serve.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(store.list("", soon()).await.unwrap(), []);
}

#[test]
fn no_keys_anywhere_is_said_so() {
    let result = in_a_process(&[]);
    assert!(result.starts_with("Denied ") && result.contains("no credentials found"), "{result}");
}
