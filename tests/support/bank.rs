//! The bank app (examples/bank) as the tests use it.

use super::repository;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Built with the same profile as litevisor. `cargo test --test NAME` does not build examples, hence the call
/// here.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_litevisor")).parent().unwrap();
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        build
            .args(["build", "--quiet", "--example", "bank", "--example", "rollout"])
            .current_dir(repository());
        build.arg("--target-dir").arg(directory.parent().unwrap());
        if directory.ends_with("release") {
            build.arg("--release");
        }
        // What cargo tells this test about itself would make build scripts below believe that they have to
        // run again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name.starts_with(prefix)) {
                build.env_remove(&*name);
            }
        }
        assert!(build.status().unwrap().success(), "the bank does not build");
        directory.join("examples/bank")
    })
}

/// A healthy bank with everything that was acknowledged (before `before_ms`, if given): its report, or what
/// is wrong.
pub fn check(db: &Path, ack: &Path, before_ms: Option<u64>) -> Result<String, String> {
    let mut command = Command::new(binary());
    command.args(["check", "--db"]).arg(db).arg("--ack").arg(ack);
    if let Some(before) = before_ms {
        command.args(["--before", &before.to_string()]);
    }
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { Err(text) }
}

pub fn seed(db: &Path) {
    assert!(Command::new(binary()).args(["seed", "--db"]).arg(db).status().unwrap().success());
}

/// Acknowledged transfers so far.
pub fn acked(ack: &Path) -> usize {
    std::fs::read(ack).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Everything SQL can see in a database: schema and rows, in a fixed order.
pub fn dump(db: &Path) -> String {
    let db = read_only(db);
    let mut text = schema_of(&db);
    let tables = strings(
        &db,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name",
    );
    for table in tables {
        let columns =
            strings(&db, &format!("SELECT 'quote(\"' || name || '\")' FROM pragma_table_info('{table}')"));
        let list = columns.join(" || ',' || ");
        for row in strings(&db, &format!("SELECT {list} FROM \"{table}\" ORDER BY 1")) {
            text += &format!("{table}: {row}\n");
        }
    }
    text
}

/// Every object of the schema, one per line.
pub fn schema(db: &Path) -> String {
    schema_of(&read_only(db))
}

fn schema_of(db: &rusqlite::Connection) -> String {
    let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ': ' || coalesce(sql, '') || char(10) FROM sqlite_schema ORDER BY 1";
    strings(db, sql).concat()
}

fn strings(db: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// For looking at a live database: never checkpoints, never removes a WAL.
pub fn read_only(db: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    rusqlite::Connection::open_with_flags(db, flags)
        .unwrap_or_else(|error| panic!("{}: {error}", db.display()))
}
