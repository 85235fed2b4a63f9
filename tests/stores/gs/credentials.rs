//! Who we are to Google: the metadata server, a service account's key, a person's credentials. Each is a
//! stand-in that checks what it is asked; so does the storage service, which takes no token but the ones that
//! were handed out.

use super::open;
use super::stand_in::{Reply, Request, StandIn, json};
use crate::suite::{soon, whole};
use crate::support::fake_gcs::settings_for;
use crate::support::net;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use litevisor::testing::model::Deadline;
use litevisor::testing::store::{StoreErrorKind, StoreSettings};
use rustls::pki_types::{AlgorithmIdentifier, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json as object};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the service lists when there is nothing.
const EMPTY: &str = r#"{"kind":"storage#objects"}"#;

const KEY: &str = include_str!("key.pem");
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The one token that is good now, and how often one was handed out.
#[derive(Default)]
struct Good {
    number: AtomicU64,
    revoked: AtomicU64,
}

impl Good {
    fn grant(&self, life: u64) -> Reply {
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        json(
            200,
            object!({"access_token": format!("hunter2-{number}"), "expires_in": life, "token_type": "Bearer"}),
        )
    }

    /// An empty listing for whoever shows a token that is good.
    fn list(&self, request: &Request) -> Reply {
        let number =
            request.header("authorization").strip_prefix("Bearer hunter2-").and_then(|n| n.parse().ok());
        let good = self.revoked.load(Ordering::SeqCst) + 1..=self.number.load(Ordering::SeqCst);
        match number {
            Some(number) if good.contains(&number) => json(200, EMPTY),
            _ => json(
                401,
                object!({"error": {"message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}),
            ),
        }
    }

    fn handed_out(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }
}

fn service(good: &Arc<Good>) -> StandIn {
    let good = Arc::clone(good);
    StandIn::start(move |request| good.list(request))
}

fn metadata(good: &Arc<Good>, life: u64) -> StandIn {
    let good = Arc::clone(good);
    StandIn::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", TOKEN_PATH) if request.header("metadata-flavor") == "Google" => good.grant(life),
        _ => json(403, "{}"),
    })
}

fn on_google(service: &StandIn, metadata: &StandIn) -> StoreSettings {
    let mut settings = settings_for(&service.url(), "b", "p");
    settings.gs.metadata_host = Some(metadata.address.to_string());
    settings
}

fn with_file(service: &StandIn, file: &Path) -> StoreSettings {
    let mut settings = settings_for(&service.url(), "b", "p");
    settings.gs.credentials_file = Some(file.to_owned());
    settings
}

fn assert_hidden(error: &litevisor::testing::store::StoreError) {
    let told = format!("{error} {error:?}");
    let key_text = KEY.lines().nth(1).unwrap();
    assert!(!told.contains("hunter2") && !told.contains(key_text) && !told.contains("eyJ"), "{told}");
}

#[tokio::test]
async fn the_metadata_servers_token_is_used_until_shortly_before_its_end() {
    let good = Arc::new(Good::default());
    let (service, metadata) = (service(&good), metadata(&good, 3600));
    let store = open(&on_google(&service, &metadata));
    assert_eq!(good.handed_out(), 0, "nothing is asked before the first request");
    let calls = (0..16).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.list("", soon()).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), []);
    }
    assert_eq!(good.handed_out(), 1, "one token for all of them");
    assert_eq!(service.seen().len(), 16);
}

#[tokio::test]
async fn a_token_that_expires_is_renewed() {
    let good = Arc::new(Good::default());
    let (service, metadata) = (service(&good), metadata(&good, 1));
    let store = open(&on_google(&service, &metadata));
    let limit = Instant::now() + Duration::from_secs(60);
    while good.handed_out() < 3 {
        assert!(Instant::now() < limit, "{} tokens", good.handed_out());
        store.list("", soon()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(service.seen().len() > 3, "each was used more than once");
}

#[tokio::test]
async fn a_refused_token_is_replaced_within_the_call() {
    let good = Arc::new(Good::default());
    let (service, metadata) = (service(&good), metadata(&good, 3600));
    let store = open(&on_google(&service, &metadata));
    store.list("", soon()).await.unwrap();
    good.revoked.store(1, Ordering::SeqCst);
    store.list("", soon()).await.unwrap();
    assert_eq!((good.handed_out(), service.seen().len()), (2, 3));
}

#[tokio::test]
async fn a_token_that_nobody_takes_is_denied_and_never_shown() {
    let good = Arc::new(Good::default());
    let (service, metadata) = (service(&good), metadata(&good, 3600));
    let store = open(&on_google(&service, &metadata));
    good.revoked.store(u64::MAX - 1, Ordering::SeqCst);
    for error in [
        store.list("", soon()).await.unwrap_err(),
        store.get("a", None, soon()).await.unwrap_err(),
        store.put_new("a", whole("x"), 0, soon()).await.unwrap_err(),
        store.put("a", "x".into(), soon()).await.unwrap_err(),
        store.delete(&["a".to_owned()], soon()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(
            error.detail.contains("Invalid Credentials") && error.detail.contains("credentials_file"),
            "{error}"
        );
        assert_hidden(&error);
    }
    // As soon as one is good, it works.
    good.revoked.store(good.handed_out(), Ordering::SeqCst);
    store.list("", soon()).await.unwrap();
}

#[tokio::test]
async fn a_machine_without_an_account_is_told_so() {
    let service = service(&Arc::default());
    let metadata = StandIn::start(|_| Reply::Send(404, Vec::new(), "<html>".into()));
    let error = open(&on_google(&service, &metadata)).list("", soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    assert!(error.detail.contains("service account"), "{error}");
    assert_eq!(service.seen().len(), 0);
}

/// In a pod it may come up later than we do.
#[tokio::test]
async fn a_metadata_server_that_is_not_there_may_come() {
    let service = service(&Arc::default());
    let mut settings = settings_for(&service.url(), "b", "p");
    settings.gs.metadata_host = Some(format!("127.0.0.1:{}", net::refusing_port()));
    let error = open(&settings).list("", soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    assert!(error.detail.contains("set credentials_file"), "{error}");
    settings.gs.metadata_host = Some(net::black_hole().to_string());
    let (started, span) = (Instant::now(), Duration::from_millis(300));
    let error = open(&settings).list("", Deadline::after(span)).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::TimedOut, "{error}");
    assert!(started.elapsed() < span + Duration::from_millis(500), "{:?}", started.elapsed());
}

/// What is in a service account's file, with `token_uri` at the stand-in.
fn service_account(key_id: &str, token_url: &str) -> String {
    object!({
        "type": "service_account", "project_id": "p", "private_key_id": key_id, "private_key": KEY,
        "client_email": "app@p.iam.gserviceaccount.com", "token_uri": token_url,
    })
    .to_string()
}

/// The parts of a JWT whose signature is the key's.
fn verified(jwt: &str) -> (Value, Value) {
    let (text, signature) = jwt.rsplit_once('.').unwrap();
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    // The head of a 2048 bit RSA key's SubjectPublicKeyInfo; after it comes the key.
    let public = key.public_key().unwrap()[24..].to_vec();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    // RSA encryption; PKCS#1 with SHA-256.
    let rsa = AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0]);
    let sha256 =
        AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0]);
    let found = |it: &&&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        it.public_key_alg_id() == rsa && it.signature_alg_id() == sha256
    };
    let algorithm = algorithms.all.iter().find(found).unwrap();
    algorithm.verify_signature(&public, text.as_bytes(), &decoded(signature)).unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    (serde_json::from_slice(&decoded(header)).unwrap(), serde_json::from_slice(&decoded(claims)).unwrap())
}

#[tokio::test]
async fn a_service_accounts_key_is_exchanged_for_a_token() {
    let good = Arc::new(Good::default());
    let granting = Arc::clone(&good);
    let (service, tokens) = (service(&good), StandIn::start(move |_| granting.grant(3600)));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.json");
    std::fs::write(&file, service_account("key-1", &format!("{}/token", tokens.url()))).unwrap();
    let store = open(&with_file(&service, &file));
    store.list("", soon()).await.unwrap();
    store.list("", soon()).await.unwrap();
    let seen = tokens.seen();
    assert_eq!(seen.len(), 1, "asked once");
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/token"));
    assert_eq!(seen[0].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(seen[0].field("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (header, claims) = verified(&seen[0].field("assertion"));
    assert_eq!(header, object!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    assert_eq!(claims["iss"], "app@p.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], format!("{}/token", tokens.url()));
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/devstorage.read_write");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let issued = claims["iat"].as_u64().unwrap();
    assert!(now.abs_diff(issued) < 120, "{issued}, now {now}");
    assert_eq!(claims["exp"], issued + 3600);
}

#[tokio::test]
async fn a_key_that_was_replaced_is_picked_up() {
    let good = Arc::new(Good::default());
    let granting = Arc::clone(&good);
    let valid = Arc::new(Mutex::new("key-1"));
    let asked_of = Arc::clone(&valid);
    let tokens = StandIn::start(move |request| {
        if verified(&request.field("assertion")).0["kid"] == *asked_of.lock().unwrap() {
            return granting.grant(3600);
        }
        json(400, object!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}))
    });
    let service = service(&good);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.json");
    std::fs::write(&file, service_account("key-1", &tokens.url())).unwrap();
    let store = open(&with_file(&service, &file));
    store.list("", soon()).await.unwrap();
    // The old key is gone, its token too; the new one is not there yet.
    *valid.lock().unwrap() = "key-2";
    good.revoked.store(1, Ordering::SeqCst);
    let error = store.list("", soon()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    for part in ["key.json", "invalid_grant: Invalid JWT Signature", "clock"] {
        assert!(error.detail.contains(part), "{error}");
    }
    assert_hidden(&error);
    std::fs::write(&file, service_account("key-2", &tokens.url())).unwrap();
    store.list("", soon()).await.unwrap();
}

#[tokio::test]
async fn a_persons_credentials_are_refreshed() {
    let good = Arc::new(Good::default());
    let granting = Arc::clone(&good);
    let (service, tokens) = (service(&good), StandIn::start(move |_| granting.grant(3600)));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("application_default_credentials.json");
    let text = object!({
        "type": "authorized_user", "client_id": "id", "client_secret": "hunter2", "refresh_token": "1//hunter2",
        "token_uri": tokens.url(),
    });
    std::fs::write(&file, text.to_string()).unwrap();
    open(&with_file(&service, &file)).list("", soon()).await.unwrap();
    let seen = tokens.seen();
    for (field, value) in
        [("grant_type", "refresh_token"), ("client_id", "id"), ("refresh_token", "1//hunter2")]
    {
        assert_eq!(seen[0].field(field), value, "{}", seen[0].text());
    }
}

#[tokio::test]
async fn a_file_that_cannot_serve_is_named() {
    let service = service(&Arc::default());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.json");
    let mut said = Vec::new();
    for (text, part) in [
        (None, "cannot be read"),
        (Some("hunter2".to_owned()), "no JSON"),
        (
            Some(service_account("1", "http://127.0.0.1:1").replace("PRIVATE KEY", "HUNTER2 KEY")),
            "private key",
        ),
        (Some(r#"{"type":"external_account","credential_source":"hunter2"}"#.to_owned()), "external_account"),
    ] {
        let _ = text.map(|text| std::fs::write(&file, text).unwrap());
        let error = open(&with_file(&service, &file)).list("", soon()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
        assert!(error.detail.contains(part) && error.detail.contains("key.json"), "{part}: {error}");
        assert_hidden(&error);
        said.push(error.to_string());
    }
    assert_eq!(service.seen().len(), 0, "{said:?}");
}

#[tokio::test]
async fn an_emulator_is_asked_without_a_token() {
    let service = StandIn::start(|request| match request.header("authorization") {
        "" => json(200, EMPTY),
        _ => json(400, "{}"),
    });
    open(&settings_for(&service.url(), "b", "p")).list("", soon()).await.unwrap();
}
