//! Tokens of Azure's identities: stand-ins of the services that hand them out check what they are asked, and
//! the real Azurite checks the tokens (their times, issuer and audience), over https. Each case is a process
//! with an environment of its own (this test binary again, with one ignored test).

use crate::suite::soon;
use crate::support::azurite::{Azurite, CA_FILE};
use crate::support::child::run_child;
use crate::support::net;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const ENDPOINT: &str = "LITEVISOR_TEST_ENDPOINT";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const CONTAINER: &str = "identities";
const CALLS: usize = 3;

fn now_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Lists a replica a few times; says what came of it on a line of its own. A token file is rotated after
/// each.
#[test]
#[ignore = "run by the other tests here, in a process of its own"]
fn child() {
    let mut settings =
        crate::support::azurite::settings_for(&std::env::var(ENDPOINT).unwrap(), CONTAINER, "x");
    settings.abs.account_key = None;
    settings.ca_file = Some(CA_FILE.into());
    let store = litevisor::testing::store::open(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for call in 1..=CALLS {
        if let Err(error) = runtime.block_on(store.list("", soon())) {
            println!("\nRESULT {:?} {error}", error.kind);
            return;
        }
        if let Ok(file) = std::env::var(TOKEN_FILE) {
            std::fs::write(file, format!("assertion-{}", call + 1)).unwrap();
        }
    }
    println!("\nRESULT listed");
}

fn in_a_process(env: &[(&str, &str)]) -> String {
    let azurite = Azurite::secure();
    azurite.create_container(CONTAINER);
    run_child(module_path!(), &[(ENDPOINT, &azurite.endpoint())], env)
}

/// What a token service was asked: the first line, the headers in lower case, the body.
type Asked = Arc<Mutex<Vec<(String, String, String)>>>;

/// Answers every request with `answer`; notes it.
fn stand_in(answer: impl Fn() -> (u16, String) + Send + 'static) -> (SocketAddr, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            notes.lock().unwrap().push(request(&mut stream));
            let (status, body) = answer();
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (address, asked)
}

fn request(stream: &mut TcpStream) -> (String, String, String) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let (first, headers) = head.split_once("\r\n").unwrap_or((head, ""));
            let headers = headers.to_ascii_lowercase();
            let length = headers
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return (first.to_owned(), headers, body.to_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => bytes.extend_from_slice(&buffer[..read]),
            _ => return (String::new(), String::new(), String::new()),
        }
    }
}

/// What Azure's token services hand out; `good_for_s` from now.
fn token(good_for_s: i64) -> String {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let begin = now_s() - 7200;
    let claims = serde_json::json!({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant/", "sub": "test",
        "iat": begin, "nbf": begin, "exp": now_s() + good_for_s,
    });
    format!("{}.{}.c2lnbmF0dXJl", part(serde_json::json!({"typ": "JWT", "alg": "RS256"})), part(claims))
}

/// A machine's token; `ends_in_s` is what is said of it, `good_for_s` what is true.
fn machine_token(ends_in_s: i64, good_for_s: i64) -> (u16, String) {
    let expires_on = (now_s() + ends_in_s).to_string();
    (200, serde_json::json!({"access_token": token(good_for_s), "expires_on": expires_on}).to_string())
}

fn program_token(ends_in_s: i64) -> (u16, String) {
    (200, serde_json::json!({"access_token": token(3600), "expires_in": ends_in_s}).to_string())
}

#[test]
fn a_machines_token_is_asked_for_as_azure_wants_it_and_kept() {
    let (address, asked) = stand_in(|| machine_token(86_400, 86_400));
    assert_eq!(
        in_a_process(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &format!("http://{address}/"))]),
        "listed"
    );
    let asked = asked.lock().unwrap();
    let [(first, headers, _)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(first.starts_with("GET /metadata/identity/oauth2/token?"), "{first}");
    assert!(first.contains("resource=https%3A%2F%2Fstorage.azure.com"), "{first}");
    assert!(first.contains("api-version=") && !first.contains("client_id"), "{first}");
    assert!(headers.contains("metadata: true"), "{headers}");
}

#[test]
fn a_token_that_ends_is_replaced() {
    let (address, asked) = stand_in(|| machine_token(0, 3600));
    assert_eq!(
        in_a_process(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &format!("http://{address}"))]),
        "listed"
    );
    assert_eq!(asked.lock().unwrap().len(), CALLS);
}

#[test]
fn a_service_names_its_address_header_and_identity() {
    let (address, asked) = stand_in(|| machine_token(86_400, 86_400));
    let result = in_a_process(&[
        ("IDENTITY_ENDPOINT", &format!("http://{address}/msi/token")),
        ("IDENTITY_HEADER", "header-of-the-service"),
        ("AZURE_CLIENT_ID", "one-of-several"),
    ]);
    assert_eq!(result, "listed");
    let asked = asked.lock().unwrap();
    let [(first, headers, _)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(first.starts_with("GET /msi/token?") && first.contains("client_id=one-of-several"), "{first}");
    assert!(headers.contains("x-identity-header: header-of-the-service"), "{headers}");
}

#[test]
fn a_pods_token_file_is_read_again_when_it_was_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "assertion-1").unwrap();
    let (address, asked) = stand_in(|| program_token(0));
    let result = in_a_process(&[
        // As the webhook of Azure's Kubernetes sets it: with a slash.
        ("AZURE_AUTHORITY_HOST", &format!("http://{address}/")),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
        (TOKEN_FILE, file.to_str().unwrap()),
    ]);
    assert_eq!(result, "listed");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), CALLS);
    for (number, (first, _, body)) in asked.iter().enumerate() {
        assert!(first.starts_with("POST /tenant-1/oauth2/v2.0/token "), "{first}");
        for part in
            ["client_id=client-1", "client_credentials", "scope=https%3A%2F%2Fstorage.azure.com%2F.default"]
        {
            assert!(body.contains(part), "{body}");
        }
        assert!(body.contains(&format!("client_assertion=assertion-{}", number + 1)), "{body}");
    }
}

#[test]
fn a_programs_secret_is_sent_to_its_tenant_alone() {
    let (address, asked) = stand_in(|| program_token(86_400));
    let authority = format!("http://{address}");
    let env = [
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
        ("AZURE_TENANT_ID", "tenant-1"),
        ("AZURE_CLIENT_ID", "client-1"),
        ("AZURE_CLIENT_SECRET", "hunter2"),
    ];
    assert_eq!(in_a_process(&env), "listed");
    let asked = asked.lock().unwrap();
    let [(first, _, body)] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(first.starts_with("POST /tenant-1/oauth2/v2.0/token "), "{first}");
    assert!(body.contains("client_id=client-1") && body.contains("client_secret=hunter2"), "{body}");
}

#[test]
fn a_token_that_the_store_refuses_is_denied() {
    let (address, _) = stand_in(|| machine_token(86_400, -3600));
    let result = in_a_process(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &format!("http://{address}"))]);
    assert!(result.starts_with("Denied ") && result.contains("Storage Blob Data Contributor"), "{result}");
    assert!(!result.contains("c2lnbmF0dXJl"), "{result}");
}

#[test]
fn why_there_is_no_token_is_told() {
    let refused = format!("http://127.0.0.1:{}", net::refusing_port());
    let answered = |status: u16, body: &'static str| {
        let (address, _) = stand_in(move || (status, body.to_owned()));
        format!("http://{address}")
    };
    for (authority, kind, part) in [
        (refused, "Unreachable ", "set account_key or sas_token"),
        (
            answered(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#),
            "Denied ",
            "Identity not found",
        ),
        (answered(500, "{}"), "Unreachable ", "500"),
        (answered(429, "{}"), "Unreachable ", "429"),
        (answered(200, "<html>"), "Invalid ", "no token from"),
    ] {
        let result = in_a_process(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &authority)]);
        assert!(result.starts_with(kind) && result.contains(part), "{result}");
    }
    let secret = [
        ("AZURE_AUTHORITY_HOST", answered(401, r#"{"error":"invalid_client"}"#)),
        ("AZURE_TENANT_ID", "tenant-1".to_owned()),
        ("AZURE_CLIENT_ID", "client-1".to_owned()),
        ("AZURE_CLIENT_SECRET", "hunter2".to_owned()),
    ];
    let env: Vec<(&str, &str)> = secret.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let result = in_a_process(&env);
    assert!(
        result.starts_with("Denied ") && result.contains("invalid_client") && !result.contains("hunter2"),
        "{result}"
    );
}
