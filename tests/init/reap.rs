//! Adopted processes are waited for.

use super::support::*;

/// Prints `adopted` when a process whose parent has ended belongs to the init.
const ORPHAN: &str = "sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!' > $1; read pid < $1; i=0; while :; do set \
    -- $(grep PPid /proc/$pid/status); [ $2 = $PPID ] && break; i=$((i+1)); [ $i -gt 300 ] && { echo lost; \
    exit 9; }; sleep .01; done; echo adopted; kill $pid; exit 0";

#[test]
fn subreaper() {
    let dir = tempfile::tempdir().unwrap();
    for mode in modes() {
        let note = path(&dir, "pid");
        let mut run = start(mode, &Settings::default(), &["sh", "-c", ORPHAN, "sh", &note]);
        run.expect("adopted");
        assert_eq!(run.status(), 0, "{mode:?}");
    }
}

fn orphans(number: u32) {
    let script = format!(
        "i=0; while [ $i -lt {number} ]; do sh -c 'exit 9 &'; i=$((i+1)); done; trap 'exit 42' USR1; echo \
         made; while :; do sleep .01; done"
    );
    for mode in modes() {
        let mut run = sh(mode, &script);
        run.expect("made");
        until("no child of the init is a zombie", || {
            children_of(run.init).iter().all(|child| child.state != 'Z')
        });
        run.signal(USR1);
        assert_eq!(run.status(), 42, "{mode:?}");
    }
}

#[test]
fn orphan() {
    orphans(1);
}

#[test]
fn orphan_flood() {
    orphans(300);
}
