//! The metrics of gates. Every series has the label `gate`, the address on which it listens.

use super::{COUNTER, GAUGE, Labels, Text, flag, seconds};
use crate::gate::{BOUNDS_MS, GateView};
use std::fmt::Write;
use std::time::Duration;

/// Name, type, help and value.
type OfGate = (&'static str, &'static str, &'static str, fn(&GateView) -> Option<String>);

const OF_GATE: [OfGate; 6] = [
    ("litevisor_gate_open", GAUGE, "1: the gate accepts connections.", |gate| {
        Some(flag(gate.shut.is_none()))
    }),
    ("litevisor_gate_connections", GAUGE, "Connections at the moment.", |gate| {
        Some(gate.connections.to_string())
    }),
    ("litevisor_gate_accepted_total", COUNTER, "Connections that were accepted.", |gate| {
        Some(gate.accepted.to_string())
    }),
    ("litevisor_gate_held_bytes", GAUGE, "Bytes that wait for the replica.", |gate| {
        Some(gate.held_bytes.to_string())
    }),
    (
        "litevisor_gate_oldest_held_seconds",
        GAUGE,
        "How long the oldest of them has been held; 0: none is.",
        |gate| Some(seconds(gate.oldest.unwrap_or_default())),
    ),
    ("litevisor_gate_unproven_total", COUNTER, "How often bytes were sent without a proof.", |gate| {
        Some(gate.unproven.to_string())
    }),
];

pub(super) fn of_gates(text: &mut Text, gates: &[GateView]) {
    for (name, kind, help, value) in OF_GATE {
        let known = gates.iter().filter_map(|gate| Some((label(gate), value(gate)?)));
        text.family(name, kind, help, known);
    }
    let closed = gates.iter().flat_map(|gate| gate.closed.iter().map(move |closed| (gate, closed)));
    let closed = closed.map(|(gate, (reason, count))| {
        let labels = [label(gate), vec![("reason", *reason)]].concat();
        (labels, count.to_string())
    });
    text.family(
        "litevisor_gate_closed_total",
        COUNTER,
        "Connections that the gate closed, by reason.",
        closed,
    );
    held_seconds(text, gates);
}

fn label(gate: &GateView) -> Labels<'_> {
    vec![("gate", gate.listen.as_str())]
}

/// A histogram: cumulative counts, their sum and their number.
fn held_seconds(text: &mut Text, gates: &[GateView]) {
    const NAME: &str = "litevisor_gate_held_seconds";
    if gates.is_empty() {
        return;
    }
    let help = "How long bytes were held until they were sent.";
    let _ = writeln!(text.0, "# HELP {NAME} {help}\n# TYPE {NAME} histogram");
    for gate in gates {
        let bounds =
            BOUNDS_MS.iter().map(|ms| seconds(Duration::from_millis(*ms))).chain(["+Inf".to_owned()]);
        let mut count = 0;
        for (bound, more) in bounds.zip(&gate.times) {
            count += more;
            let labels = [label(gate), vec![("le", bound.as_str())]].concat();
            text.sample(&format!("{NAME}_bucket"), &labels, &count.to_string());
        }
        text.sample(&format!("{NAME}_sum"), &label(gate), &seconds(gate.time));
        text.sample(&format!("{NAME}_count"), &label(gate), &count.to_string());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::observe::metrics) fn view() -> GateView {
        GateView {
            listen: "[::]:8080".into(),
            connections: 7,
            held_bytes: 512,
            oldest: Some(Duration::from_millis(1_500)),
            times: (0..=BOUNDS_MS.len() as u64).collect(),
            time: Duration::from_millis(2_250),
            closed: vec![("timeout", 3), ("fenced", 0)],
            ..GateView::default()
        }
    }

    #[test]
    fn values_and_labels() {
        let mut text = Text(String::new());
        of_gates(&mut text, &[view()]);
        for line in [
            "litevisor_gate_open{gate=\"[::]:8080\"} 1",
            "litevisor_gate_connections{gate=\"[::]:8080\"} 7",
            "litevisor_gate_held_bytes{gate=\"[::]:8080\"} 512",
            "litevisor_gate_oldest_held_seconds{gate=\"[::]:8080\"} 1.500",
            "litevisor_gate_closed_total{gate=\"[::]:8080\",reason=\"timeout\"} 3",
            "litevisor_gate_held_seconds_bucket{gate=\"[::]:8080\",le=\"0.005\"} 1",
            "litevisor_gate_held_seconds_bucket{gate=\"[::]:8080\",le=\"0.010\"} 3",
            "litevisor_gate_held_seconds_bucket{gate=\"[::]:8080\",le=\"+Inf\"} 78",
            "litevisor_gate_held_seconds_sum{gate=\"[::]:8080\"} 2.250",
            "litevisor_gate_held_seconds_count{gate=\"[::]:8080\"} 78",
        ] {
            assert!(text.0.lines().any(|known| known == line), "{line} is not in\n{}", text.0);
        }
        let mut none = Text(String::new());
        of_gates(&mut none, &[]);
        assert_eq!(none.0, "");
    }
}
