# A server of lines on SQLite that knows nothing of litevisor. Each connection has a connection to the database of its own.
#   put ID -> ok ID, after the commit        get ID -> yes | no        make PATH -> made, a database with a commit of its own
# On SIGTERM it ends at once, with the status that its second argument names.
import os, signal, socketserver, sqlite3, sys

db, status, port = sys.argv[1], int(sys.argv[2]), int(os.environ["PORT"])


def connect(path=db):
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


made = []


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        connection = connect()
        for line in self.rfile:
            word, key = line.decode().split()
            if word == "put":
                connection.execute("INSERT INTO told VALUES (?)", (key,))
                answer = "ok " + key
            elif word == "make":
                made.append(connect(key))
                made[-1].execute("CREATE TABLE made (x)")
                answer = "made"
            else:
                found = connection.execute("SELECT 1 FROM told WHERE id = ?", (key,)).fetchone()
                answer = "yes" if found else "no"
            self.wfile.write((answer + "\n").encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


connect().execute("CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY) WITHOUT ROWID")
signal.signal(signal.SIGTERM, lambda *_: os._exit(status))
Server(("127.0.0.1", port), Lines).serve_forever()
