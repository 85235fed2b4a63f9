//! What the services that are spoken to in plain HTTP share: the client, what an answer means, the content of a reply.
//! Never: knows a service, its addresses or its credentials.

mod answer;
mod body;
mod client;
mod content;

pub(super) use answer::{failed, refused, with_hint};
pub(super) use body::body;
pub(super) use client::{client, local_client};
pub(super) use content::content_into;
