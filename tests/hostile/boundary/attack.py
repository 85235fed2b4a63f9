# The app's user, in a tight loop: exchanges, links, unlinks, renames and makes what is no file, in its own directory.
# Arguments: the data directory, the directory outside, the seed, and "exchange" for exchanges alone, which are taken back. Ends when its standard input does; prints its rounds.
import ctypes, os, random, select, shutil, sys

data, outside, seed = sys.argv[1:4]
only_exchanges = sys.argv[4:] == ["exchange"]
random.seed(seed)
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, EXCHANGE = -100, 2
db = "sub/app.db"
state, lite = "sub/.app.db-litevisor", "sub/.app.db-litestream"
names = [db, db + "-wal", db + "-shm", db + "-journal", db + ".litevisor-staged", db + ".litevisor-staged-wal",
         db + ".litevisor-aside", db + ".litevisor-aside-wal", state, state + "/state.json", state + "/state.json.tmp",
         state + "/spill", state + "/restored-on-purpose.json", state + "/restored-from-0.3.json", state + "/handover.json",
         state + "/handover.json.tmp", state + "/spill/copy.tmp", lite, lite + "/ltx",
         lite + "/ltx/0", "sub", "sub", db, db + ".litevisor-staged"]
targets = ["secret", "shadow", "run.conf", "tmp", "service/app.db", "secrets/app.db", "secrets", "service", "litestream",
           "litestream/ltx", "litestream/ltx/0"]
targets = [os.path.join(outside, target) for target in targets] + ["/dev/zero", "/etc/shadow"]

def spilled():
    try:
        return [state + "/spill/" + name for name in os.listdir(os.path.join(data, state, "spill"))]
    except OSError:
        return []

def attempt(work, *args):
    try:
        work(*args)
    except OSError:
        pass

def clear(path):
    if os.path.islink(path) or not os.path.isdir(path):
        attempt(os.unlink, path)
    else:
        shutil.rmtree(path, ignore_errors=True)

def exchange(path, target):
    other = os.path.join(data, "exchanged")
    clear(other)
    attempt(os.symlink, target, other)
    a, b = path.encode(), other.encode()
    for _ in range(random.choice((2, 2, 4, 20))):
        libc.renameat2(AT_FDCWD, a, AT_FDCWD, b, EXCHANGE)

def round():
    name = random.choice(names)
    if random.random() < 0.1:
        name = random.choice(spilled() + [state + "/spill/%016x-%016x.ltx.tmp" % ((random.randrange(1, 40),) * 2)])
    path, target = os.path.join(data, name), random.choice(targets)
    what = random.random()
    if what < 0.6 or only_exchanges:
        exchange(path, target)
    elif what < 0.75:
        clear(path)
        attempt(os.symlink, target, path)
    elif what < 0.8:
        clear(path)
    elif what < 0.85:
        clear(path)
        attempt(os.mkfifo, path)
    elif what < 0.9:
        attempt(os.mkdir, path)
        attempt(os.mkdir, path + "/full")
    elif what < 0.95:
        clear(path)
        attempt(os.link, target, path)
    else:
        attempt(os.rename, path, os.path.join(data, random.choice(names)))
    # Without a directory there is nothing to attack.
    sub = os.path.join(data, "sub")
    if random.random() < 0.3 and not only_exchanges:
        if os.path.islink(sub) or not os.path.isdir(sub):
            clear(sub)
        attempt(os.mkdir, sub)
        for left in (db + "-journal", db + ".litevisor-aside", db):
            if not os.path.isfile(os.path.join(data, left)) or os.path.islink(os.path.join(data, left)):
                clear(os.path.join(data, left))

rounds = 0
while not select.select([sys.stdin], [], [], random.random() * 0.002)[0]:
    round()
    rounds += 1
print(rounds, flush=True)
