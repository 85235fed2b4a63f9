//! The gates of a run: how many connections they may have, and what they hear of the app and of the last
//! flush.

use super::prepare::room_for_connections;
use crate::config::Config;
use crate::gate::{AppAddress, GateSettings, Gates};
use crate::model::{Deadline, DurabilityLedger};
use crate::observe::StatusRegistry;
use crate::replicate::Ledger;
use crate::supervise::{Probe, ReadyCheck};
use std::sync::Arc;
use std::time::Duration;

/// After the last flush, clients have this long to take their answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// And at least this long, also when the time of the stop is over.
const LEAST: Duration = Duration::from_millis(50);
/// A directory is counted as so many databases: its databases are not known yet.
const OF_DIRECTORY: usize = 100;

/// The configured gates, with as many connections as there is room for.
pub(super) fn settings(config: &mut Config) -> Vec<GateSettings> {
    let mut settings = std::mem::take(&mut config.gates);
    let databases = config.databases.len() + OF_DIRECTORY * config.directories.len();
    let wanted: usize = settings.iter().map(|gate| gate.max_connections).sum();
    limit(&mut settings, wanted, room_for_connections(databases, wanted));
    settings
}

/// Starts the gates' thread. Without a gate there is neither a thread nor a ledger.
pub(super) fn open(
    settings: Vec<GateSettings>,
    ledger: Option<Arc<Ledger>>,
    registry: &StatusRegistry,
) -> std::io::Result<Gates> {
    let Some(ledger) = ledger else { return Ok(Gates::none()) };
    let ledger: Arc<dyn DurabilityLedger> = ledger;
    let gates = Gates::start(settings, &ledger)?;
    registry.set_gates(gates.statistics().to_vec());
    Ok(gates)
}

/// Whether the app behind a gate answers, where nothing else is configured. None: no app has a TCP port.
pub(super) fn ready_check(settings: &[GateSettings]) -> Option<ReadyCheck> {
    settings.iter().find_map(|gate| match &gate.app {
        AppAddress::Tcp(addresses) => {
            let text = format!("tcp:{}", gate.app);
            Some(ReadyCheck::Probe(Probe { text, addresses: addresses.clone(), http: None }))
        }
        AppAddress::Unix(_) => None,
    })
}

/// Divides the connections that there is room for.
fn limit(gates: &mut [GateSettings], wanted: usize, room: usize) {
    for gate in gates.iter_mut().filter(|_| room < wanted) {
        let share = (gate.max_connections as u128 * room as u128 / wanted as u128).max(1);
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        let listen = &gate.listen;
        let most = gate.max_connections;
        tracing::info!(
            gate = %listen,
            "the gate takes {share} connections at once, not {most}: the limit of open files allows no more \
             (docker run --ulimit nofile=, LimitNOFILE= in systemd)"
        );
        gate.max_connections = share;
    }
}

/// The last flush has ended, which had time until `flush_by`: waits for the clients that take their answers.
pub(super) fn finish(gates: &Gates, complete: bool, flush_by: Option<Deadline>) {
    let by = Deadline::after(LAST_ANSWERS);
    let by = flush_by.map_or(by, |flush_by| flush_by.max(Deadline::after(LEAST)).min(by));
    gates.finish(complete, by);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{AppAddress, ListenAddress};

    #[test]
    fn gates_share_the_room_that_there_is() {
        let gate = |most: usize| GateSettings {
            max_connections: most,
            ..GateSettings::new(ListenAddress::Unix("/g".into()), AppAddress::Unix("/a".into()))
        };
        for (room, expected) in
            [(4_000, [3_000, 1_000]), (9_999, [3_000, 1_000]), (400, [300, 100]), (0, [1, 1])]
        {
            let mut gates = [gate(3_000), gate(1_000)];
            limit(&mut gates, 4_000, room);
            assert_eq!(gates.map(|gate| gate.max_connections), expected, "{room}");
        }
    }
}
