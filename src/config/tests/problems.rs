//! What is wrong is told with file, line, key and the nearest name.

use super::*;

#[test]
fn problems_name_file_line_key_and_the_nearest_name() {
    for (text, expected) in [
        ("[app]\ncomand = [\"x\"]", "s.toml:2: app.comand is an unknown key, did you mean \"command\"?"),
        ("[shutdwn]\ngrace = \"1s\"", "s.toml:1: shutdwn is an unknown table, did you mean \"shutdown\"?"),
        (
            "\n[shutdown]\n\ngrace = 10",
            "s.toml:4: shutdown.grace has no unit (\"10\"): write for example \"10s\", \"500ms\", \"1m30s\" \
             or \"2h\"",
        ),
        ("[shutdown]\ngrace = true", "s.toml:2: shutdown.grace must be a string, not a boolean"),
        (
            "[shutdown]\ngrace = \"5s\"\napp_timeout = \"6s\"",
            "s.toml:3: shutdown.app_timeout is 6s, but the whole of it, grace, is 5s: leave time for the \
             last flush (default 3s750ms)",
        ),
        (
            "[shutdown]\ngrace = \"10s\"\npre_sync_timeout = \"8s\"",
            "s.toml:3: shutdown.pre_sync_timeout is 8s, longer than app_timeout, which is 7s500ms",
        ),
        ("[restore]\nparallelism = 0", "s.toml:2: restore.parallelism must be between 1 and 64"),
        (
            "[log]\nlevel = \"inof\"",
            "s.toml:2: log.level cannot be \"inof\", did you mean \"info\"? (one of error, warn, info, \
             debug, trace)",
        ),
        ("[app]\ncommand = \"/run.sh\"", "s.toml:2: app.command must be an array of strings, not a string"),
        (
            "[app]\ncommand = []",
            "s.toml:2: app.command is empty: name a program, for example [\"/usr/bin/app\", \"--flag\"]",
        ),
        ("[app]\ncommand = [\"\"]", "s.toml:2: app.command is empty: give a value or remove the key"),
        (
            "[app]\ncommand = [\n\"a\",\n\"${NONE}\"]",
            "s.toml:4: app.command uses ${NONE}, which is not set: set it, or write ${NONE:-default}",
        ),
        (
            "[app]\nstop_signal = \"SIGTREM\"",
            "s.toml:2: app.stop_signal is no signal (\"SIGTREM\"), did you mean \"SIGTERM\"?",
        ),
        (
            "[app]\nrestart = \"on-failur\"",
            "s.toml:2: app.restart cannot be \"on-failur\", did you mean \"on-failure\"? (one of never, \
             on-failure, always)",
        ),
        ("[app]\nsuccess_codes = [1, 256]", "s.toml:2: app.success_codes must be between 0 and 255"),
        (
            "[app]\nsuccess_codes = 143",
            "s.toml:2: app.success_codes must be an array of whole numbers, not an integer",
        ),
        ("[app]\nbackoff = { limit = 0 }", "s.toml:2: app.backoff.limit must be between 1 and 1000000"),
        (
            "[app]\nbackoff = { delay = \"40s\" }",
            "s.toml:2: app.backoff.delay is longer than delay_max, which is 30s",
        ),
        (
            "[app]\nbackoff = { dealy = \"1s\" }",
            "s.toml:2: app.backoff.dealy is an unknown key, did you mean \"delay\"?",
        ),
        (
            "[app.signals]\nTREM = \"QUIT\"",
            "s.toml:2: app.signals.TREM is no signal (\"TREM\"), did you mean \"SIGTERM\"?",
        ),
        (
            "[app.signals]\nTERM = \"QIUT\"",
            "s.toml:2: app.signals.TERM is no signal (\"QIUT\"), did you mean \"SIGQUIT\"?",
        ),
        (
            "[app.signals]\nHUP = \"KILL\"",
            "s.toml:2: app.signals.HUP cannot be SIGKILL: the app could not react",
        ),
        ("[app.signals]\nINT = \"none\"", "s.toml:2: app.signals.INT cannot be \"none\": it asks us to stop"),
        (
            "[app]\nstop_signal = \"QUIT\"\nsignals = { QUIT = \"none\" }",
            "s.toml:3: app.signals.QUIT cannot be \"none\"",
        ),
        ("[app.signals]\nCHLD = \"HUP\"", "s.toml:2: app.signals.CHLD is never forwarded"),
        ("[app.signals]\nHUP = \"USR1\"\nSIGHUP = \"USR2\"", "s.toml:3: app.signals.SIGHUP is given twice"),
        ("[app.signals]\nHUP = 1", "s.toml:2: app.signals.HUP must be a string, not an integer"),
        (
            "[app]\nready = \"3000\"",
            "s.toml:2: app.ready is no check (\"3000\"): write \"tcp:3000\", \
             \"http://127.0.0.1:3000/health\" or \"notify\"",
        ),
        (
            "[app]\nsignal_to = \"groop\"",
            "s.toml:2: app.signal_to cannot be \"groop\", did you mean \"group\"? (one of auto, main, group)",
        ),
        ("[app]\nuser = 1000", "s.toml:2: app.user must be a string, not an integer"),
        ("[app.env]\n\"A=B\" = \"x\"", "s.toml:2: app.env.A=B is no name of an environment variable"),
        ("[status]\nlisten = \"9090\"", "s.toml:2: status.listen is no address (\"9090\"): write"),
        (
            "[database]\npath = \"/d/a.db\"",
            "s.toml:1: database must be an array of tables: write [[database]] with two brackets, not a \
             table",
        ),
        (
            "[[database]]\npath = \"/d/a.db\"",
            "s.toml:1: database has no replica: add [database.replica] with a url",
        ),
        ("[app]\ncommand = [\"x\"", "s.toml:2: "),
        ("app = 1\napp = 2", "s.toml:2: duplicate key"),
    ] {
        let told = problems(text);
        assert!(told.iter().any(|line| line.starts_with(expected)), "{text}\n{told:#?}");
    }
}

#[test]
fn problems_of_databases() {
    for (keys, expected) in [
        ("", "s.toml:3: database.replica has no url"),
        (
            "url = \"s3://b/p\"\nregoin = \"x\"",
            "s.toml:5: database.replica.regoin is an unknown key, did you mean \"region\"?",
        ),
        (
            "url = \"s3://b/p\"\nhost_key = \"x\"",
            "s.toml:5: database.replica.host_key belongs to sftp:// replicas",
        ),
        (
            "url = \"sftp://u:p@h/x\"\npassword = \"y\"",
            "s.toml:5: database.replica.password is given in the url too",
        ),
        (
            "url = \"sftp://u@h/x\"\nkey_passphrase = \"y\"",
            "s.toml:5: database.replica.key_passphrase needs key_file",
        ),
        (
            "url = \"/backup\"\nregion = \"x\"",
            "s.toml:5: database.replica.region belongs to s3:// replicas; this one is file://",
        ),
        ("url = \"/d/a.db\"", "s.toml:4: database.replica.url is the database's own path"),
        (
            "url = \"s3://b/p\"\naccess_key_id = \"x\"",
            "s.toml:5: database.replica.access_key_id needs secret_access_key beside it",
        ),
        (
            "url = \"s3://b/p\"\nsecret_access_key = \"x\"",
            "s.toml:5: database.replica.secret_access_key needs access_key_id",
        ),
        (
            "url = \"s3://b/p\"\nsecret_access_key = \"x\"\nsecret_access_key_file = \"/y\"",
            "s.toml:6: database.replica.secret_access_key_file cannot be given together with \
             secret_access_key",
        ),
        (
            "url = \"s3://b/p\"\nsecret_access_key_file = \"/none\"",
            "s.toml:5: database.replica.secret_access_key_file cannot be read: /none: ",
        ),
        (
            "url = \"s3://b/p?region=a\"\nregion = \"b\"",
            "s.toml:5: database.replica.region is given in the url too",
        ),
        (
            "url = \"s3://b/p\"\npart_size = \"1MiB\"",
            "s.toml:5: database.replica.part_size must be between 5MiB and 5GiB",
        ),
        (
            "url = \"s3://b/p\"\nendpoint = \"localhost\"",
            "s.toml:5: database.replica.endpoint needs an endpoint",
        ),
        (
            "url = \"s3://b/p\"\n[[database]]\npath = \"/d/./a.db\"\n[database.replica]\nurl = \"/r\"",
            "s.toml:6: database.path is configured twice: /d/a.db (line 2)",
        ),
        (
            "url = \"s3://b/p\"\n[[database]]\npath = \"/d/b.db\"\n[database.replica]\nurl = \"s3://b//p/\"",
            "s.toml:8: database.replica.url is the replica of /d/a.db already (line 4)",
        ),
    ] {
        let told = problems(&with_replica(keys));
        assert!(told.iter().any(|line| line.starts_with(expected)), "{keys}\n{told:#?}");
    }
    let told = problems("[[database]]\nsync_interval = \"1s\"\nlevels = [\"5m\", \"30s\"]\nmode = \"rw\"");
    assert_eq!(told.len(), 5, "all at once, in order: {told:#?}");
    assert!(told[2].contains("belongs into [database.replica]"), "{told:#?}");
}
