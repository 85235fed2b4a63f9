//! What the stores of one service and set of keys share: the SDK's client, the provider's rules, and what
//! requests have shown about the service.

use super::provider::Rules;
use aws_sdk_s3::Client;
use std::sync::atomic::AtomicBool;
use tokio::sync::OnceCell;

/// How the service treats the condition of a create (`If-None-Match: *`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conditions {
    Honoured,
    /// The put succeeds whether or not the object exists.
    Ignored,
    /// Answered with an error.
    Refused,
}

impl Conditions {
    /// The value of `If-None-Match` for a create.
    pub(super) fn header(self) -> Option<String> {
        (self != Conditions::Refused).then(|| "*".to_owned())
    }
}

pub(in crate::store) struct Service {
    pub(super) client: Client,
    pub(super) rules: Rules,
    /// Probed by `conditions`.
    pub(super) conditions: OnceCell<Conditions>,
    /// The service refused to delete many objects by one request.
    pub(super) one_by_one: AtomicBool,
}

impl Service {
    pub(super) fn new(client: Client, rules: Rules) -> Service {
        let one_by_one = AtomicBool::new(!rules.deletes_many);
        Service { client, rules, conditions: OnceCell::new(), one_by_one }
    }
}
