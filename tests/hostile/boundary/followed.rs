//! An instance that waits for the replica: root applies what the replica has grown by to a file in the app's
//! directory, while the app's user exchanges what it can.

use super::attack::Attacker;
use super::led_astray::{fifo, link};
use super::place::{Place, stop};
use crate::support::SOON;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

const LIVES: u64 = 4;

/// Commits now and then, and sometimes more than a copy keeps in memory.
const OWNER: &str = "import os, sqlite3, sys, time\n\
    c = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)\n\
    c.execute('pragma journal_mode=wal')\n\
    c.execute('create table if not exists u(x)')\n\
    for n in range(10**6):\n\
    \x20c.execute('insert into u values (?)', (os.urandom(6000000 if n % 20 == 19 else 3000),))\n\
    \x20time.sleep(0.02)\n";

fn handover(place: &mut Place, poll: &str) {
    place.settings = format!(
        "[shutdown]\ngrace = \"5s\"\n[restore]\ntimeout = \"5s\"\n[handover]\nenabled = true\npoll = \"{poll}\"\nwait = \"60s\"\n"
    );
}

/// The owner looks late, so that the next instance waits and follows while it is attacked. Then it gets the
/// replica.
#[test]
fn a_waiting_instance_follows_into_no_other_file() {
    let Some(mut owner) = Place::new() else { return };
    handover(&mut owner, "3s");
    owner.make_history();
    for life in 0..LIVES {
        let (Some(mut place), db) = (Place::new(), owner.db()) else { return };
        handover(&mut place, "100ms");
        place.name = "sub/app.db";
        place.make("sub");
        fs::remove_dir(place.path("bucket")).unwrap();
        symlink(owner.path("bucket"), place.path("bucket")).unwrap();
        let before = place.look_outside();
        let mut first = owner.run(&["python3", "-c", OWNER, db.to_str().unwrap()]);
        first.wait_for_log("replication", SOON, |line| line.contains("replicating"));
        let mut second = place.run(&["sleep", "60"]);
        second.wait_for_log("it waits", SOON, |line| line.contains("waiting until the instance"));
        // What is exchanged and put back at once leaves it a copy to follow with.
        let gently = life % 2 == 0;
        let attacker = Attacker::start(&place, life, if gently { &["exchange"] } else { &[] });
        let begun = Instant::now();
        // Whatever it makes of that: it starts, or refuses.
        while second.is_running()
            && !second.log_text().contains("the app is started")
            && begun.elapsed() < SOON
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        let rounds = attacker.end();
        let ended = if second.is_running() { stop(&mut second) } else { second.wait(Duration::ZERO) };
        let log = second.log_text();
        let followed = log.lines().filter(|line| line.contains("caught up with the replica")).count();
        println!("life {life}: {rounds} rounds, ended with {}, caught up {followed} times", ended.code);
        assert!(place.look_outside() == before, "life {life}: something outside has changed\n{log}");
        place.assert_nothing_leaked();
        assert!(![70, 101, 134, 139].contains(&ended.code), "life {life}: {}\n{log}", ended.code);
        assert!(rounds > 100, "{rounds}");
        // It serves again if the attacked one has failed.
        assert!([0, 143].contains(&stop(&mut first).code), "{}", first.log_text());
    }
}

/// What this machine remembers of its last run.
#[test]
fn what_is_no_file_in_place_of_the_memory_of_the_last_run() {
    type Put = fn(&Place, &Path);
    let ways: [Put; 5] = [
        |_, at| fifo(at),
        |_, at| link(Path::new("/dev/zero"), at),
        |_, at| fs::create_dir(at).unwrap(),
        |place, at| link(&place.outside("secret"), at),
        |_, at| fs::File::create(at).unwrap().set_len(1 << 40).unwrap(),
    ];
    for put in ways {
        let Some(mut place) = Place::new() else { return };
        handover(&mut place, "100ms");
        place.make_history();
        let at = place.make(".app.db-litevisor").join("handover.json");
        fs::remove_file(&at).unwrap();
        put(&place, &at);
        let before = place.look_outside();
        let (ended, log) = place.live_sql("insert into t values (2)");
        assert!(place.look_outside() == before, "something outside has changed\n{log}");
        place.assert_nothing_leaked();
        assert_eq!(ended.code, 0, "{log}");
    }
}
