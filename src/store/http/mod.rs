//! What the services that are spoken to in plain HTTP share: the client, what an answer means, the content of a reply.
//! Never: knows a service, its addresses or its credentials.

mod answer;
mod client;
mod content;

pub(super) use answer::{failed, refused, with_hint};
pub(super) use client::{Connector, client};
pub(super) use content::content_into;
