//! What the services that speak plain HTTP share: the transport, what an answer means, the content of a
//! reply.

mod answer;
mod body;
mod client;
mod content;
mod transport;

use answer::is_timeout;
pub(super) use answer::{date, failed, reason, refused, retry_after, with_hint};
pub(super) use body::body;
pub(super) use client::{local_client, web_client};
pub(super) use content::content;
pub(super) use transport::{Transport, TransportError, timed_out};
