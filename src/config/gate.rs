//! `[[gate]]`, or `--gate LISTEN=APP` → `GateSettings`; and the `PORT` of the app behind it. Pure.

use super::document::Document;
use super::environment::Environment;
use super::problem::Location;
use super::values::{Count, DAY, HOUR, Key, Span, Tables};
use super::{ready, status};
use crate::gate::{Accept, AppAddress, GateSettings, ListenAddress, OnFailure};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Before the path of a Unix socket.
const UNIX: &str = "unix:";
/// The longest path of a Unix socket on Linux.
const UNIX_MAX: usize = 107;

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct GateSection {
    listen: Key<String>,
    app: Key<String>,
    accept: Key<Accept>,
    timeout: Key<Span<10, DAY>>,
    on_failure: Key<OnFailure>,
    min_interval: Key<Span<0, HOUR>>,
    max_connections: Key<Count<1, 1_000_000>>,
    proxy_protocol: Key<bool>,
    set_port: Key<bool>,
}

/// An entry, with what the checks across all entries need.
pub struct ParsedGate {
    pub settings: GateSettings,
    pub location: Location,
    listen_location: Location,
    app_location: Location,
    set_port_location: Location,
}

/// `[[gate]]`, then `--gate LISTEN=APP` of the command line.
pub fn read_all(
    tables: Key<Tables<GateSection>>,
    options: &[String],
    document: &Document<'_>,
) -> Vec<ParsedGate> {
    let sections = tables.value.into_iter().flat_map(|tables| tables.0);
    let of_file = sections.filter_map(|section| read(section, document));
    of_file.chain(options.iter().filter_map(|text| from_option(text, document))).collect()
}

fn read(section: Key<GateSection>, document: &Document<'_>) -> Option<ParsedGate> {
    let location = section.location?;
    let section = section.value?;
    for (key, name, example) in
        [(&section.listen, "listen", ":8080"), (&section.app, "app", "127.0.0.1:3000")]
    {
        if !key.is_written() {
            document
                .complain(&location, format!("has no {name}: add one, for example {name} = \"{example}\""));
        }
    }
    let listen = document.parsed(&section.listen, |text| listen(text, document.environment));
    let app = document.parsed(&section.app, |text| app(text, document.environment));
    let mut settings = GateSettings::new(listen?, app?);
    settings.accept = section.accept.or(settings.accept);
    settings.timeout = section.timeout.value.map_or(settings.timeout, |span| span.0);
    settings.on_failure = section.on_failure.or(settings.on_failure);
    settings.min_interval = section.min_interval.value.map_or(settings.min_interval, |span| span.0);
    let most = section.max_connections.value.and_then(|count| usize::try_from(count.0).ok());
    settings.max_connections = most.unwrap_or(settings.max_connections);
    settings.proxy_protocol = section.proxy_protocol.or(settings.proxy_protocol);
    settings.set_port = section.set_port.value;
    Some(ParsedGate {
        settings,
        listen_location: section.listen.location.unwrap_or_else(|| location.clone()),
        app_location: section.app.location.unwrap_or_else(|| location.clone()),
        set_port_location: section.set_port.location.unwrap_or_else(|| location.clone()),
        location,
    })
}

fn from_option(text: &str, document: &Document<'_>) -> Option<ParsedGate> {
    let location = Location::option("--gate");
    let complain = |message: String| document.complain(&location, message);
    let Some((from, to)) = text.split_once('=') else {
        complain(format!("is no gate (\"{text}\"): write LISTEN=APP, for example :8080=3000"));
        return None;
    };
    let listen = listen(from, document.environment).map_err(|message| complain(format!("LISTEN {message}")));
    let app = app(to, document.environment).map_err(|message| complain(format!("APP {message}")));
    let settings = GateSettings::new(listen.ok()?, app.ok()?);
    let [listen_location, app_location, set_port_location] = [(); 3].map(|()| location.clone());
    Some(ParsedGate { settings, location, listen_location, app_location, set_port_location })
}

fn listen(text: &str, environment: Environment<'_>) -> Result<ListenAddress, String> {
    if let Some(path) = unix(text, environment)? {
        return Ok(ListenAddress::Unix(path));
    }
    // `${PORT}` is a number alone.
    let is_port = text.bytes().all(|byte| byte.is_ascii_digit());
    status::listen(&if is_port { format!(":{text}") } else { text.to_owned() }).map(ListenAddress::Tcp)
}

fn app(text: &str, environment: Environment<'_>) -> Result<AppAddress, String> {
    if let Some(path) = unix(text, environment)? {
        return Ok(AppAddress::Unix(path));
    }
    let form = "write the app's port, \"127.0.0.1:3000\", or \"unix:/path\"";
    ready::addresses_of_port(text).map(AppAddress::Tcp).map_err(|why| format!("{why} (\"{text}\"): {form}"))
}

/// None: it is no Unix socket.
fn unix(text: &str, environment: Environment<'_>) -> Result<Option<PathBuf>, String> {
    let Some(path) = text.strip_prefix(UNIX) else { return Ok(None) };
    if path.is_empty() || path.ends_with('/') {
        return Err(format!("names no file (\"{text}\"): write \"unix:/path\""));
    }
    let path = environment.absolute(path);
    if path.as_os_str().len() > UNIX_MAX {
        return Err(format!(
            "has a path of more than {UNIX_MAX} bytes, the kernel's limit for a Unix socket"
        ));
    }
    Ok(Some(path))
}

/// Each problem with its location.
pub fn problems(
    gates: &[ParsedGate],
    status_listen: Option<SocketAddr>,
    has_databases: bool,
) -> Vec<(Location, String)> {
    let mut found = Vec::new();
    for (index, later) in gates.iter().enumerate() {
        let listen = &later.settings.listen;
        if !has_databases {
            let message = "needs a [[database]]: without one there is no answer to hold".to_owned();
            found.push((later.location.clone(), message));
        }
        for earlier in gates.iter().take(index) {
            if overlap(&earlier.settings.listen, listen) {
                let line = earlier.listen_location.short();
                found.push((
                    later.listen_location.clone(),
                    format!("is the address of another gate already ({line})"),
                ));
            }
            if [earlier, later].iter().all(|gate| gate.settings.set_port == Some(true)) {
                let line = earlier.set_port_location.short();
                let message = format!("is true for another gate already ({line}): the app has one PORT");
                found.push((later.set_port_location.clone(), message));
            }
        }
        if status_listen.is_some_and(|status| overlap(&ListenAddress::Tcp(status), listen)) {
            found.push((
                later.listen_location.clone(),
                "is the address of [status] listen already".to_owned(),
            ));
        }
        if reaches_itself(listen, &later.settings.app) {
            let message = "is the gate's own address: the app must listen on another one".to_owned();
            found.push((later.app_location.clone(), message));
        }
        if later.settings.set_port == Some(true) && later.settings.app.port().is_none() {
            let message = "needs an app with a port: this one has a Unix socket".to_owned();
            found.push((later.set_port_location.clone(), message));
        }
    }
    found
}

fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let all = |address: &SocketAddr| address.ip().is_unspecified();
            a.port() == b.port() && (a.ip() == b.ip() || all(a) || all(b))
        }
        (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
        _ => false,
    }
}

fn reaches_itself(listen: &ListenAddress, app: &AppAddress) -> bool {
    match (listen, app) {
        (ListenAddress::Unix(listen), AppAddress::Unix(app)) => listen == app,
        (ListenAddress::Tcp(listen), AppAddress::Tcp(app)) => app.iter().any(|app| {
            let here = app.ip().is_loopback() || app.ip().is_unspecified();
            listen.port() == app.port() && (listen.ip() == app.ip() || (listen.ip().is_unspecified() && here))
        }),
        _ => false,
    }
}

/// The `PORT` that the app gets in place of litevisor's own. With several gates: of the one that listens on
/// that port.
pub fn app_port(gates: &[ParsedGate], own: Option<&str>) -> Option<u16> {
    let settings = || gates.iter().map(|gate| &gate.settings);
    if let Some(gate) = settings().find(|gate| gate.set_port == Some(true)) {
        return gate.app.port();
    }
    let own = own?;
    let listens_there = |gate: &GateSettings| match &gate.listen {
        ListenAddress::Tcp(address) => address.port().to_string() == own,
        ListenAddress::Unix(_) => false,
    };
    let undecided = settings().filter(|gate| gate.set_port.is_none());
    let of_gate = undecided.clone().find(|gate| listens_there(gate));
    of_gate.or_else(|| undecided.clone().next().filter(|_| gates.len() == 1))?.app.port()
}
