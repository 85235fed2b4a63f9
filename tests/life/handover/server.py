# A server of one request per connection on SQLite that knows nothing of litevisor: `put ID` -> `ok ID`, after the commit.
# On SIGTERM it accepts no more, answers what it has, and exits with 0, as a server does that drains.
import os, signal, socket, sqlite3, sys, threading

db, port = sys.argv[1], int(os.environ["PORT"])


def connect():
    connection = sqlite3.connect(db, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def serve(client):
    with client, client.makefile("rwb") as stream:
        line = stream.readline().decode().split()
        if len(line) == 2 and line[0] == "put":
            connection = connect()
            connection.execute("INSERT OR IGNORE INTO told VALUES (?)", (line[1],))
            connection.close()
            stream.write(("ok " + line[1] + "\n").encode())


setup = connect()
setup.execute("CREATE TABLE IF NOT EXISTS told (id TEXT PRIMARY KEY) WITHOUT ROWID")
setup.close()
listener = socket.create_server(("127.0.0.1", port), backlog=128)
stopping = threading.Event()


def stop(*_):
    stopping.set()


signal.signal(signal.SIGTERM, stop)
listener.settimeout(0.02)
serving = []
while not stopping.is_set():
    try:
        client, _ = listener.accept()
    except TimeoutError:
        continue
    client.settimeout(None)
    thread = threading.Thread(target=serve, args=(client,))
    thread.start()
    serving = [one for one in serving if one.is_alive()] + [thread]
# What the kernel has accepted already is answered, too.
listener.settimeout(0)
try:
    while True:
        client, _ = listener.accept()
        client.settimeout(None)
        thread = threading.Thread(target=serve, args=(client,))
        thread.start()
        serving.append(thread)
except OSError:
    pass
listener.close()
for thread in serving:
    thread.join()
