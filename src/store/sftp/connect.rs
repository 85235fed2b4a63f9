//! Connects: address, host key, login, SFTP. Sends nothing but a greeting before the host key is verified.

use super::cause::{self, Fault};
use super::identity::{self, Identity};
use super::session::{Channel, Session};
use super::trust::{Expected, Trust};
use super::wire::{self, Incoming};
use crate::store::SftpSettings;
use russh::client::{self, AuthResult, DisconnectReason, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, MethodSet, Preferred};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// For each address of a host: one that drops packets must leave time for the next.
const TCP: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Longer than three keepalives without a word.
const SILENT: Duration = Duration::from_secs(60);

pub(super) async fn connect(settings: &SftpSettings) -> Result<Arc<Session>, Fault> {
    let address = format!("{}:{}", settings.host, settings.port);
    let prepared = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || prepare(&settings)).await
    };
    let (trust, identity) =
        prepared.map_err(|_| Fault::lost("reading the keys was broken off"))?.map_err(Fault::Denied)?;
    if trust.is_off() {
        tracing::warn!(
            server = address,
            "the host key is not verified (host_key = \"any\"): anybody in between can read and change the \
             replica"
        );
    }
    let end_reason = Arc::new(Mutex::new(None));
    let mut handle = shake_hands(settings, &trust, &address, &end_reason).await?;
    log_in(&mut handle, settings, &identity, &address).await?;
    open_sftp(handle, end_reason, address).await
}

type EndReason = Arc<Mutex<Option<Fault>>>;

/// A connection whose host is the right one.
async fn shake_hands(
    settings: &SftpSettings,
    trust: &Trust,
    address: &str,
    end_reason: &EndReason,
) -> Result<Handle<Client>, Fault> {
    let mut refused = None;
    for algorithms in trust.rounds() {
        let stream = reach(&settings.host, settings.port, address).await?;
        let config = client::Config {
            preferred: Preferred { key: Cow::Owned(algorithms), ..Preferred::DEFAULT },
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 2,
            inactivity_timeout: Some(SILENT),
            ..client::Config::default()
        };
        let client =
            Client { trust: trust.clone(), address: address.to_owned(), end_reason: Arc::clone(end_reason) };
        match client::connect_stream(Arc::new(config), stream, client).await {
            Ok(handle) => return Ok(handle),
            // The key that it should show may be of another kind.
            Err(refusal @ (Refusal::Host(_) | Refusal::Ssh(russh::Error::NoCommonAlgo { .. }))) => {
                refused.get_or_insert(refusal.into_fault(address));
            }
            Err(refusal) => return Err(refusal.into_fault(address)),
        }
    }
    Err(refused.unwrap_or_else(|| Fault::Denied(format!("there is no host key to ask {address} for"))))
}

/// What is read from disk. Blocks.
fn prepare(settings: &SftpSettings) -> Result<(Trust, Identity), String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let expected = settings.host_key.as_deref().map(Expected::parse).transpose()?;
    let mut trust = Trust::new(expected, &settings.host, settings.port);
    if trust.asks_files() {
        learn(&mut trust, settings.known_hosts_file.as_deref(), home.as_deref())?;
    }
    Ok((trust, identity::load(settings, home.as_deref())?))
}

fn learn(trust: &mut Trust, file: Option<&Path>, home: Option<&Path>) -> Result<(), String> {
    if let Some(file) = file {
        let text = std::fs::read(file)
            .map_err(|error| format!("cannot read known_hosts_file {}: {error}", file.display()))?;
        trust.add_known_hosts(&file.display().to_string(), &String::from_utf8_lossy(&text));
        return Ok(());
    }
    let own = home.map(|home| home.join(".ssh/known_hosts"));
    for file in own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]) {
        let text = std::fs::read(&file).unwrap_or_default();
        trust.add_known_hosts(&file.display().to_string(), &String::from_utf8_lossy(&text));
    }
    Ok(())
}

async fn reach(host: &str, port: u16, address: &str) -> Result<TcpStream, Fault> {
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses = found.map_err(|error| Fault::lost(format!("cannot find the host {host}: {error}")))?;
    let mut last = Fault::lost(format!("the host {host} has no address"));
    for one in addresses {
        match tokio::time::timeout(TCP, TcpStream::connect(one)).await {
            Ok(Ok(stream)) => {
                // A request waits for its answer: it must not wait for a full packet first.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = cause::network(address, &error),
            Err(_) => {
                last = Fault::lost(format!("{address} does not answer; is the host reachable from here?"))
            }
        }
    }
    Err(last)
}

struct Client {
    trust: Trust,
    address: String,
    end_reason: EndReason,
}

#[derive(Debug)]
enum Refusal {
    Ssh(russh::Error),
    Host(String),
}

impl From<russh::Error> for Refusal {
    fn from(error: russh::Error) -> Refusal {
        Refusal::Ssh(error)
    }
}

impl Refusal {
    fn into_fault(self, address: &str) -> Fault {
        match self {
            Refusal::Ssh(error) => cause::connection(address, &error),
            Refusal::Host(why) => Fault::Denied(why),
        }
    }
}

impl client::Handler for Client {
    type Error = Refusal;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Refusal> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.trust.check(key).map(|()| true).map_err(Refusal::Host)
            }
            // Not asked for, so a server that shows one is not in order.
            PublicKeyOrCertificate::Certificate(_) => {
                Err(Refusal::Host("the server shows a certificate, which was not asked for".to_owned()))
            }
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Refusal>) -> Result<(), Refusal> {
        let why = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                Fault::lost(format!("{} closed the connection: {}", self.address, info.message))
            }
            DisconnectReason::Error(refusal) => refusal.into_fault(&self.address),
        };
        self.end_reason.lock().unwrap_or_else(PoisonError::into_inner).replace(why);
        Ok(())
    }
}

/// The key first, then the password: a server may ask for both.
async fn log_in(
    handle: &mut Handle<Client>,
    settings: &SftpSettings,
    identity: &Identity,
    address: &str,
) -> Result<(), Fault> {
    let broken = |error: russh::Error| cause::connection(address, &error);
    let user = settings.user.as_str();
    let mut tried = Vec::new();
    let mut takes = MethodSet::empty();
    if let Some((file, key)) = &identity.key {
        tried.push(format!("the key of {}", file.display()));
        let hash = match key.algorithm() {
            // A server that does not say is asked for the one that all current ones take.
            Algorithm::Rsa { .. } => Some(
                handle.best_supported_rsa_hash().await.map_err(broken)?.flatten().unwrap_or(HashAlg::Sha512),
            ),
            _ => None,
        };
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        match handle.authenticate_publickey(user, key).await.map_err(broken)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => takes = remaining_methods,
        }
    }
    if let Some(password) = identity.password.as_ref().filter(|_| !handle.is_closed()) {
        tried.push("the password".to_owned());
        match handle.authenticate_password(user, password.as_str()).await.map_err(broken)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => takes = remaining_methods,
        }
        if takes.contains(&russh::MethodKind::KeyboardInteractive)
            && answer_prompts(handle, user, password).await.map_err(broken)?
        {
            return Ok(());
        }
    }
    if handle.is_closed() && takes.is_empty() {
        return Err(Fault::lost(format!("{address} closed the connection during the login")));
    }
    let takes: Vec<&str> = takes.iter().map(Into::into).collect();
    Err(Fault::Denied(format!(
        "{address} refused the login of user \"{user}\" with {}; it takes: {}. Check that the user exists \
         there, and that the key is in its authorized_keys, or the password right",
        tried.join(" and "),
        if takes.is_empty() { "nothing more".to_owned() } else { takes.join(", ") },
    )))
}

/// The password as the answer to every question: what servers with PAM ask for instead.
async fn answer_prompts(
    handle: &mut Handle<Client>,
    user: &str,
    password: &str,
) -> Result<bool, russh::Error> {
    let mut reply = handle.authenticate_keyboard_interactive_start(user, None).await?;
    // A server may ask again and again.
    for _ in 0..5 {
        let prompts = match reply {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let answers = prompts.iter().map(|_| password.to_owned()).collect();
        reply = handle.authenticate_keyboard_interactive_respond(answers).await?;
    }
    Ok(false)
}

async fn open_sftp(
    handle: Handle<Client>,
    end_reason: EndReason,
    address: String,
) -> Result<Arc<Session>, Fault> {
    let broken = |error: russh::Error| cause::connection(&address, &error);
    let mut channel = handle.channel_open_session().await.map_err(|error| match error {
        russh::Error::ChannelOpenFailure(_) => {
            Fault::Denied(format!("{address} lets this user open no session"))
        }
        error => broken(error),
    })?;
    channel.request_subsystem(true, "sftp").await.map_err(broken)?;
    let mut incoming = Incoming::default();
    let greeting = loop {
        match channel.wait().await {
            // Not before: until the server runs it, it takes nothing.
            Some(ChannelMsg::Success) => channel.data_bytes(wire::hello()).await.map_err(broken)?,
            Some(ChannelMsg::Failure) => {
                return Err(Fault::Denied(format!(
                    "{address} has no SFTP for this user; the server needs a line `Subsystem sftp \
                     internal-sftp`"
                )));
            }
            Some(ChannelMsg::Data { data }) => incoming.push(&data),
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => {
                return Err(Fault::lost(format!(
                    "{address} ended the SFTP session at once; the server's log says why (a shell or chroot \
                     that does not allow it?)"
                )));
            }
            Some(_) => {}
        }
        if let Some(packet) =
            incoming.next().map_err(|what| Fault::Denied(format!("{address} sends {what}")))?
        {
            break packet;
        }
    };
    let extensions = wire::extensions(greeting).map_err(|what| Fault::Denied(format!("{address} {what}")))?;
    let (read, write) = channel.split();
    Ok(Session::start(Channel { read, write, incoming, keeps: handle, end_reason, address }, extensions))
}
