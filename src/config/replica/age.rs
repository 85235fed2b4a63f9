//! The keys of an encrypted replica, of any store, and what the environment adds.

use super::{Reading, ReplicaSection, either};
use crate::store::{AgeSettings, StoreSettings, check_keys};

pub const IDENTITIES: &str = "LITEVISOR_AGE_IDENTITIES";
pub const RECIPIENTS: &str = "LITEVISOR_AGE_RECIPIENTS";

pub fn read(section: &ReplicaSection, reading: &mut Reading<'_>) {
    let identities = reading.secret(&section.age_identities, &section.age_identities_file).secret;
    let recipients = reading.secret(&section.age_recipients, &section.age_recipients_file).secret;
    let given = either(&section.age_identities, &section.age_identities_file);
    let written = given.or(either(&section.age_recipients, &section.age_recipients_file));
    reading.store.age = AgeSettings { identities, recipients };
    let variable = |name: &str| reading.document.environment.text(name);
    from_environment(&mut reading.store, &variable);
    // A file or a variable that is missing is complained of already.
    let is_lost = given.is_some() && reading.store.age.identities.is_none();
    let problem = check_keys(&reading.store.age).err().filter(|_| !is_lost);
    if let (Some(problem), Some(location)) = (&problem, written.or(section.url.location.as_ref())) {
        reading.document.complain(location, problem.clone());
    }
}

/// Only where the configuration has no keys: a key of the environment is not mixed with others.
pub fn from_environment(store: &mut StoreSettings, variable: &dyn Fn(&str) -> Option<String>) {
    if store.age == AgeSettings::default() {
        let secret = |name: &str| variable(name).map(crate::model::Secret::new);
        store.age = AgeSettings { identities: secret(IDENTITIES), recipients: secret(RECIPIENTS) };
    }
}
