# Reads a bank as fast as it can until SIGTERM. Every transaction of the bank keeps the sum, and numbers the ledger without a hole.
# Writes to argv[2]: looks, violations, states seen, integrity, the user, the role, and what an attempt to write gives.
import os, signal, sqlite3, sys, time
over = []
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
looks = wrong = states = 0
last, failed, db = None, {}, None
while not over:
    try:
        db = db or sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
        db.execute('BEGIN')
        total, = db.execute('SELECT sum(balance) FROM accounts').fetchone()
        rows, newest = db.execute('SELECT count(*), coalesce(max(number), 0) FROM ledger').fetchone()
        db.execute('COMMIT')
        looks += 1
        wrong += total != 8000 or rows != newest
        states += newest != last
        last = newest
        if looks == 1:
            open(sys.argv[2] + '.first', 'w').close()
    except sqlite3.Error as error:
        failed[str(error)] = failed.get(str(error), 0) + 1
        if db is not None and db.in_transaction:
            db.execute('ROLLBACK')
    time.sleep(0.005)
# Root may write.
attempts = []
for attempt in os.getuid() and (lambda: db.execute('DELETE FROM ledger'), lambda: os.chmod(sys.argv[1], 0o666), lambda: open(sys.argv[1], 'r+')) or ():
    try:
        attempt()
        attempts.append('done')
    except Exception as error:
        attempts.append(type(error).__name__)
said = [looks, wrong, states, db.execute('PRAGMA integrity_check').fetchone()[0], os.getuid(),
        os.environ.get('LITEVISOR_ROLE', 'none'), ','.join(attempts), failed]
with open(sys.argv[2], 'w') as out:
    out.write('|'.join(map(str, said)))
sys.exit(7)
