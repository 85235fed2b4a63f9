//! Keys for tests.

use super::{Keys, Sealed};
use crate::model::Secret;
use crate::store::{AgeSettings, Store};
use std::sync::Arc;

pub const SECRET: &str = "AGE-SECRET-KEY-14XFHMT5X6M5ZDVU8A7X9HNYUVEEHPMN0PTTMR29LPLF5GY8XD28SQUW2T5";
pub const OTHER: &str = "AGE-SECRET-KEY-16MC8FUTY5G5Q32ATRPDANJ4SXWMH0QELH2RUUEAURF24DA0G8FNSHS0040";

pub fn settings(identities: &str, recipients: Option<&str>) -> AgeSettings {
    AgeSettings { identities: Some(Secret::new(identities)), recipients: recipients.map(Secret::new) }
}

pub fn sealed(inner: Arc<dyn Store>, settings: &AgeSettings) -> Sealed {
    Sealed::new(inner, Keys::of(settings).unwrap())
}
