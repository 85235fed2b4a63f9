//! YAML text → a tree of nodes with their lines. Scalars stay text as written (`0600` is no number, `no` is
//! no boolean): what they are is decided by who asks. Pure, bounded in depth and size.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub line: usize,
    pub node: Node,
}

/// Line and message.
pub type Mistake = (usize, String);

const DEEPEST: usize = 32;
/// Counted with what aliases repeat.
const MOST_NODES: usize = 20_000;

/// The first document; an empty one is `Null`.
pub fn parse(text: &str) -> Result<Node, Mistake> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| (error.marker().line(), format!("is no YAML: {}", error.info())))?;
        if builder.take(event, span.start.line())? {
            break;
        }
    }
    Ok(builder.root.unwrap_or(Node { line: 1, value: Value::Null }))
}

/// A collection that is not closed yet.
struct Open {
    line: usize,
    anchor: usize,
    value: Value,
    /// The key that waits for its value.
    key: Option<(String, usize)>,
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl Builder {
    /// True when the document is complete.
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<bool, Mistake> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                self.add(Node { line, value }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(line, anchor, Value::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => self.begin(line, anchor, Value::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { line, anchor, value, .. }) = self.open.pop() {
                    self.add(Node { line, value: merged(value)? }, anchor)?;
                }
            }
            Event::Alias(id) => {
                let target = self.anchors.get(&id).cloned();
                let mut node = target.ok_or((line, "uses an alias inside of what it names".to_owned()))?;
                node.line = line;
                self.nodes += size(&node);
                self.add(node, 0)?;
            }
            Event::DocumentEnd => return Ok(true),
            _ => {}
        }
        Ok(false)
    }

    fn begin(&mut self, line: usize, anchor: usize, value: Value) -> Result<(), Mistake> {
        if self.open.len() >= DEEPEST {
            return Err((line, "is nested too deeply".into()));
        }
        self.open.push(Open { line, anchor, value, key: None });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        let line = node.line;
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err((line, "is too long for a configuration".into()));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.value, open.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, line))) => {
                if entries.iter().any(|entry| entry.key == key && key != "<<") {
                    return Err((line, format!("{key} is given twice")));
                }
                entries.push(Entry { key, line, node });
            }
            (Value::Map(_), None) => match node.value {
                Value::Scalar(key) => open.key = Some((key, line)),
                _ => return Err((line, "has a key that is no text".into())),
            },
            (Value::Null | Value::Scalar(_), _) => {}
        }
        Ok(())
    }
}

/// `<<: *other` adds what is not there.
fn merged(value: Value) -> Result<Value, Mistake> {
    let Value::Map(entries) = value else { return Ok(value) };
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.key == "<<");
    for Entry { node, line, .. } in merges {
        let sources = match node.value {
            Value::List(items) => items,
            value => vec![Node { line: node.line, value }],
        };
        for source in sources {
            let Value::Map(more) = source.value else {
                return Err((line, "<< needs a table, or a list of tables".into()));
            };
            for entry in more {
                if own.iter().all(|known| known.key != entry.key) {
                    own.push(entry);
                }
            }
        }
    }
    Ok(Value::Map(own))
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| size(&entry.node)).sum::<usize>(),
        Value::Null | Value::Scalar(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(node: &Node) -> String {
        match &node.value {
            Value::Null => "-".into(),
            Value::Scalar(text) => format!("{text}@{}", node.line),
            Value::List(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries = entries.iter().map(|entry| format!("{}={}", entry.key, flat(&entry.node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn trees() {
        for (text, expected) in [
            ("", "-"),
            ("# nothing\n", "-"),
            ("a: 1\nb:\n  - x\n  - 'y'\n", "{a=1@1 b=[x@3 y@4]}"),
            ("a: 0600\nb: no\nc:\nd: ~\ne: ''\n", "{a=0600@1 b=no@2 c=- d=- e=@5}"),
            ("{a: [1, 2], b: {c: d}}", "{a=[1@1 2@1] b={c=d@1}}"),
            ("---\na: 1\n---\nb: 2\n", "{a=1@2}"),
            ("x: &x\n  a: 1\n  b: 2\ny:\n  <<: *x\n  b: 3\n", "{x={a=1@2 b=2@3} y={b=3@6 a=1@2}}"),
            ("x: &x [1]\ny: *x\n", "{x=[1@1] y=[1@1]}"),
            ("a: >-\n  one\n  two\n", "{a=one two@2}"),
            ("a: \"q\\\"\\n\"\n", "{a=q\"\n@1}"),
        ] {
            assert_eq!(flat(&parse(text).unwrap()), expected, "{text:?}");
        }
    }

    #[test]
    fn mistakes() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        let lines = (0..=9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            let aliases = vec![format!("*a{level}"); 9].join(", ");
            format!("{text}a{next}: &a{next} [{aliases}]\n", next = level + 1)
        });
        for (text, line, part) in [
            ("a: 1\na: 2\n", 2, "a is given twice"),
            ("a: 1\n b: 2\n", 2, "is no YAML"),
            ("b: 1\na: \"x\n", 2, "is no YAML"),
            ("a:\n\tb: 1\n", 2, "is no YAML"),
            ("[a]: 1\n", 1, "no text"),
            ("a: *none\n", 1, "is no YAML"),
            ("<<: x\n", 1, "needs a table"),
            (&deep, 1, "too deeply"),
            (&lines, 5, "too long"),
        ] {
            let (found, message) = parse(text).unwrap_err();
            assert!(message.contains(part), "{text:.40?}: {message}");
            assert_eq!(found, line, "{text:.40?}: {message}");
        }
    }
}
