//! Speaks sd_notify(3) to the service manager that has started litevisor (systemd, podman): `NOTIFY_SOCKET`
//! in the environment. The main thread sends, without waiting: so a watchdog that is fed proves its life.

pub(super) mod decide;
mod life;
mod protocol;
pub(super) mod pulse;
mod status_line;

use super::app_voice::Heard;
use crate::observe::{Phase, StatusRegistry};
use decide::{Silence, Speaker, View};
pub(super) use life::Life;
use pulse::Pulse;
use std::ffi::OsString;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An app that had them would announce itself in litevisor's place.
const OURS: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// Between two signs of life of the engine, without a watchdog.
const PULSE: Duration = Duration::from_secs(5);

pub(super) struct Manager {
    /// None: there is no service manager, or it cannot be told anything.
    link: Option<Link>,
}

struct Link {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    speaker: Speaker,
    pulse: Arc<Pulse>,
    life: Life,
    phase: Option<Phase>,
    due: Instant,
    /// The log says already that a message was not taken.
    failing: bool,
    silence: Option<Silence>,
}

impl Manager {
    pub(super) fn of_environment() -> Manager {
        let Some(text) = std::env::var_os("NOTIFY_SOCKET") else { return Manager { link: None } };
        let opened = protocol::address(&text).and_then(|address| address.map(Link::open).transpose());
        let link = opened.unwrap_or_else(|error| {
            let socket = text.display();
            tracing::warn!("the service manager is told nothing (NOTIFY_SOCKET is {socket}): {error}");
            None
        });
        if let Some(Link { watchdog, .. }) = &link {
            let watchdog = watchdog.map(|watchdog| format!("{watchdog:?}"));
            tracing::info!(
                watchdog,
                "litevisor tells the service manager about itself and the app (NOTIFY_SOCKET)"
            );
        }
        Manager { link }
    }

    /// Written by the engine.
    pub(super) fn pulse(&self) -> Option<Arc<Pulse>> {
        self.link.as_ref().map(|link| Arc::clone(&link.pulse))
    }

    /// The manager expects a sign of life at least this often.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.link.as_ref()?.watchdog
    }

    /// Variables that the app must not inherit.
    pub(super) fn kept_from_app(&self) -> Vec<OsString> {
        self.link.iter().flat_map(|_| OURS).map(OsString::from).collect()
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.link.as_ref().map(|link| link.due)
    }

    pub(super) fn enter(&mut self, life: Life, phase: Phase) {
        let Some(link) = &mut self.link else { return };
        if link.life != life || link.phase != Some(phase) {
            (link.life, link.phase, link.due) = (life, Some(phase), Instant::now());
        }
    }

    /// Something has happened that the next look shows.
    pub(super) fn look_now(&mut self) {
        self.link.iter_mut().for_each(|link| link.due = Instant::now());
    }

    /// Tells what is new, if a look is due. `heard`: what the app has said.
    pub(super) fn tend(&mut self, registry: &StatusRegistry, heard: impl FnOnce() -> Option<Heard>) {
        let Some(link) = self.link.as_mut().filter(|link| link.due <= Instant::now()) else { return };
        let (snapshot, heard) = (registry.glance(), heard());
        let view = View {
            snapshot: &snapshot,
            life: link.life,
            heard: heard.as_ref(),
            engine_age: link.pulse.age(),
        };
        let message = link.speaker.look(&view);
        link.send(message);
        link.log_silence();
        link.due = Instant::now() + link.speaker.pause();
    }
}

impl Link {
    fn open(address: SocketAddr) -> std::io::Result<Link> {
        let variable = |name| std::env::var_os(name);
        let (usec, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        let watchdog = protocol::watchdog(usec.as_deref(), pid.as_deref(), std::process::id());
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let pulse = watchdog.map_or(PULSE, |watchdog| (watchdog / 8).clamp(Duration::from_millis(10), PULSE));
        Ok(Link {
            socket,
            address,
            watchdog,
            speaker: Speaker::new(watchdog),
            pulse: Arc::new(Pulse::new(pulse)),
            life: Life::default(),
            phase: None,
            due: Instant::now(),
            failing: false,
            silence: None,
        })
    }

    fn send(&mut self, message: decide::Message) {
        let text = message.text();
        if text.is_empty() {
            return;
        }
        match self.socket.send_to_addr(text.as_bytes(), &self.address) {
            Ok(_) => self.failing = false,
            Err(error) => {
                self.speaker.not_sent(message);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "the service manager does not take a message (NOTIFY_SOCKET), tried again: {error}"
                    );
                }
            }
        }
    }

    fn log_silence(&mut self) {
        let silence = self.speaker.silence();
        if silence == std::mem::replace(&mut self.silence, silence) {
            return;
        }
        match silence {
            Some(Silence::Engine) => tracing::error!(
                "the engine thread hangs: the service manager's watchdog is not fed. It ends litevisor if \
                 this lasts"
            ),
            Some(Silence::App) => tracing::error!(
                "the app has sent no WATCHDOG=1 for {:?}: the service manager's watchdog is not fed. It ends \
                 the app and litevisor if this lasts",
                self.watchdog.unwrap_or_default()
            ),
            None if self.life.ending => {}
            None => tracing::info!("the service manager's watchdog is fed again"),
        }
    }
}
