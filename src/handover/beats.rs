//! The heartbeats of an instance that holds an epoch. Each is an object of its own, created once; the last
//! two are kept. A heartbeat that fails is tried again with the same number. Nothing is safe or unsafe
//! because of them: they tell a standby when not to wait.

use super::client::{Client, HandoverError};
use super::owner::Epoch;
use crate::model::Deadline;
use crate::model::log_throttle::LogThrottle;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

type Sending = Pin<Box<dyn Future<Output = Result<(), HandoverError>> + Send>>;

pub struct Beats {
    client: Client,
    /// None: no heartbeats are written.
    every: Option<Duration>,
    epoch: Option<Epoch>,
    /// The last one that is written.
    number: u64,
    due: Instant,
    sending: Option<Sending>,
    throttle: LogThrottle,
}

impl Beats {
    pub fn new(client: Client, every: Option<Duration>) -> Beats {
        let (due, throttle) = (Instant::now(), LogThrottle::default());
        Beats { client, every, epoch: None, number: 0, due, sending: None, throttle }
    }

    /// The epoch that is held now.
    pub fn hold(&mut self, epoch: Option<Epoch>) {
        if self.epoch != epoch {
            (self.epoch, self.number, self.due, self.sending) = (epoch, 0, Instant::now(), None);
        }
    }

    /// Never ends. Dropped at any point, it goes on with the next call.
    pub async fn run(&mut self) -> Infallible {
        loop {
            let (Some(every), Some(epoch)) = (self.every, self.epoch) else {
                return std::future::pending().await;
            };
            if self.sending.is_none() {
                tokio::time::sleep_until(self.due).await;
                self.due = (self.due + every).max(Instant::now());
            }
            let (client, number) = (&self.client, self.number.saturating_add(1));
            let send = || {
                let client = client.clone();
                Box::pin(async move { client.beat(epoch, number, Deadline::after(every)).await }) as Sending
            };
            let result = self.sending.get_or_insert_with(send).await;
            self.sending = None;
            match result {
                Ok(()) => self.number = number,
                Err(error) => self.tell(&error),
            }
        }
    }

    fn tell(&mut self, error: &HandoverError) {
        let text = error.to_string();
        if self.throttle.due(&text) {
            let replica = self.client.url();
            tracing::warn!(
                replica,
                error = text,
                "hand-over: cannot write the heartbeat: a standby may take over"
            );
        }
    }
}
