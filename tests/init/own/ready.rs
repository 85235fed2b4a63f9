//! When the app counts as ready: `/readyz` says no until it answers for the first time in each of its lives.

use crate::support::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Listens once it gets USR1, is well once it gets USR2, fails on USR1 after that.
const APP: &str = "
import signal, sys, http.server, threading
port, state = int(sys.argv[1]), 503
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(state if self.path == '/health?x=1' else 404)
        self.end_headers()
    def log_message(self, *_): pass
signal.pthread_sigmask(signal.SIG_BLOCK, {10, 12, 15})
print('ready', flush=True)
if signal.sigwait({10, 15}) == 15: sys.exit(0)
server = http.server.HTTPServer(('127.0.0.1', port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
if signal.sigwait({12, 15}) == 15: sys.exit(0)
state = 204
sys.exit(7 if signal.sigwait({10, 15}) == 10 else 0)
";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn ready(port: u16) -> (bool, String) {
    let mut text = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
        let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    (text.starts_with("HTTP/1.1 200"), text)
}

#[test]
fn ready_once_the_app_answers() {
    for (check, http) in [("tcp:PORT", false), ("http://127.0.0.1:PORT/health?x=1", true)] {
        let dir = tempfile::tempdir().unwrap();
        let (port, status) = (free_port(), free_port());
        let config = path(&dir, "supervisor.toml");
        let text = format!(
            "[app]\nready = \"{}\"\nrestart = \"on-failure\"\nbackoff = {{ delay = \"10ms\" }}\n[status]\n\
             socket = \"none\"\nlisten = \"127.0.0.1:{status}\"\n[[database]]\npath = \"{1}/app.db\"\n\
             [database.replica]\nurl = \"{1}/replica\"\n",
            check.replace("PORT", &port.to_string()),
            dir.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = bare(Mode::Plain, &[]);
        command.args(["run", "--config", &config, "--", python(), "-c", APP, &port.to_string()]);
        let mut run = start_command(Mode::Plain, command);
        for life in 0..2 {
            run.expect("ready");
            until("it says what it waits for", || ready(status).1.contains("the app does not answer yet"));
            assert!(!ready(status).0, "{check}, life {life}");
            let app = app_of(&run);
            kill(app, USR1);
            if http {
                until("the answer is told", || ready(status).1.contains("HTTP status 503"));
                assert!(!ready(status).0, "{check}, life {life}");
            }
            kill(app, USR2);
            until("it is ready", || ready(status).0);
            if life == 0 {
                kill(app, USR1);
            }
        }
        run.signal(TERM);
        assert_eq!(run.status(), 0, "{check}");
    }
}
