//! The dashboard's JSON, by its structure: no Grafana is at hand that could show it.

use super::{read, text};
use serde_json::Value;
use std::collections::BTreeSet;

const COLUMNS: u64 = 24;
const UNITS: [&str; 8] = ["none", "s", "bytes", "Bps", "ops", "reqps", "cps", "short"];

pub fn dashboard() -> Value {
    serde_json::from_str(&read("dashboard.json")).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// All queries of panels, as they stand.
pub fn queries(dashboard: &Value) -> Vec<String> {
    let panels = list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row");
    panels.flat_map(|panel| list(panel, "targets")).map(|target| text(target, "expr").to_owned()).collect()
}

/// `label_values(SELECTOR, LABEL)` of each variable.
pub fn variables(dashboard: &Value) -> Vec<(String, String)> {
    let all = list(&dashboard["templating"], "list").iter().filter(|variable| variable["type"] == "query");
    let parts = |variable: &Value| {
        let query = text(&variable["query"], "query").to_owned();
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        (selector.to_owned(), label.to_owned())
    };
    all.map(parts).collect()
}

/// The cells that a panel covers.
fn cells(panel: &Value) -> Vec<(u64, u64)> {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
    assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{}", panel["title"]);
    (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))).collect()
}

fn assert_from_variable(source: &Value) {
    assert_eq!((text(source, "type"), text(source, "uid")), ("prometheus", "${datasource}"));
}

#[test]
fn its_structure() {
    let dashboard = dashboard();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36 && dashboard["id"].is_null());
    let (mut ids, mut covered) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(
            !title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()),
            "{title}: its id is there twice"
        );
        for cell in cells(panel) {
            assert!(covered.insert(cell), "{title} lies on another panel at {cell:?}");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(["stat", "timeseries", "state-timeline"].contains(&text(panel, "type")), "{title}");
        assert_from_variable(&panel["datasource"]);
        let unit = text(&panel["fieldConfig"]["defaults"], "unit");
        assert!(UNITS.contains(&unit), "{title}: {unit}");
        let mut references = BTreeSet::new();
        for target in list(panel, "targets") {
            assert_from_variable(&target["datasource"]);
            assert!(references.insert(text(target, "refId")), "{title}");
            assert!(!text(target, "legendFormat").is_empty(), "{title}");
            let query = text(target, "expr");
            assert!(
                query.contains("job=~\"$job\", instance=~\"$instance\""),
                "{title}: not of the chosen instances: {query}"
            );
            assert_eq!(
                query.matches(['(', '{', '[']).count(),
                query.matches([')', '}', ']']).count(),
                "{title}: {query}"
            );
        }
    }
    let source = &list(&dashboard["templating"], "list")[0];
    assert_eq!(
        (text(source, "name"), text(source, "type"), text(source, "query")),
        ("datasource", "datasource", "prometheus")
    );
    for annotation in list(&dashboard["annotations"], "list") {
        assert_from_variable(&annotation["datasource"]);
    }
    // Each variable is declared, and used.
    let (all, variables) = (dashboard.to_string(), list(&dashboard["templating"], "list"));
    let declared: BTreeSet<&str> = variables.iter().map(|variable| text(variable, "name")).collect();
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let used = all
        .split('$')
        .skip(1)
        .map(|rest| rest.trim_start_matches('{').split(|char| !is_name(char)).next().unwrap());
    let used: BTreeSet<&str> = used.filter(|name| !name.starts_with("__")).collect();
    assert_eq!(used, declared);
}
