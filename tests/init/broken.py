"""An init that is right but for the one flaw that its first word names: `broken.py FLAW -- CMD ARGS...`.
tests/broken.sh runs the suite on it to see that each check can fail."""
import ctypes, errno, os, resource, signal, sys, time

flaw, words = sys.argv[1], sys.argv[3:]
prctl = ctypes.CDLL(None).prctl
if not words:
    sys.exit(0 if flaw == 'no-usage' else 'broken: no command')

every = set(range(1, 65)) - {4, 5, 6, 7, 8, 9, 11, 19, 31, 32, 33}
before = signal.pthread_sigmask(signal.SIG_BLOCK, every)
waited = every - before if flaw == 'deaf-when-blocked' else every
prctl(36, 1)
foreground = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
if flaw == 'chatter': os.write(1, b'broken: hello\n')


def child():
    if flaw != 'one-group': os.setpgid(0, 0)
    if foreground and flaw not in ('one-group', 'no-terminal', 'unreachable'): os.tcsetpgrp(0, os.getpid())
    # Python has changed these two in the parent.
    signal.signal(13, signal.SIG_IGN if flaw == 'sigpipe' else signal.SIG_DFL)
    signal.signal(25, signal.SIG_DFL)
    signal.signal(2, signal.SIG_DFL)
    env, argv = dict(os.environb), [os.fsencode(word) for word in words]
    if 'LC_CTYPE' in os.environ: env.pop(b'LC_CTYPE')
    if flaw == 'stdin': os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
    if flaw == 'leak': os.set_inheritable(os.open('/dev/null', os.O_RDONLY), True)
    if flaw == 'close': os.closerange(3, 100)
    if flaw == 'argv': argv = [word for word in argv if word]
    if flaw == 'env': env[b'BROKEN'] = b'1'
    if flaw == 'cwd': os.chdir('/')
    if flaw == 'umask': os.umask(0o22)
    if flaw == 'limits': resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if flaw == 'no-new-privs': prctl(38, 1, 0, 0, 0)
    if flaw == 'needs-root': os.setgroups([])
    if flaw == 'late-exec': time.sleep(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        if flaw == 'no-path': os.execve(argv[0], argv, env)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        if error.errno == errno.ENOEXEC and flaw != 'no-shell': os.execve(b'/bin/sh', [b'sh'] + argv, env)
        print('broken: %s: %s' % (words[0], error), file=sys.stderr)
        os._exit(127 if error.errno == errno.ENOENT else 126)


pid = os.fork()
if pid == 0: child()
try: os.setpgid(pid, pid) if flaw != 'one-group' else None
except OSError: pass
if flaw == 'spurious-hup': time.sleep(.5); os.kill(pid, 1)
if flaw == 'slow': time.sleep(4)


def end(status):
    code = os.waitstatus_to_exitcode(status) if not os.WIFSTOPPED(status) else 0
    if code < 0: code = -code if flaw == 'bare-signal' else 128 - code
    if flaw == 'daemons':
        try:
            while True: os.wait()
        except OSError: pass
    os._exit({'always-0': 0, 'always-1': 1}.get(flaw, code))


def reap():
    while True:
        target = pid if flaw == 'no-reaping' else -1
        try: ended, status = os.waitpid(target, os.WNOHANG | (os.WUNTRACED if flaw == 'stop-is-end' else 0))
        except OSError: return
        if ended == 0: return
        if ended == pid or flaw == 'any-child': end(status)


def forward(number):
    if flaw == 'one-group': os.kill(pid, number)
    else: os.killpg(pid, number)


heard = set()
reap()
while True:
    got = signal.sigwaitinfo(waited).si_signo
    if got == 17:
        if flaw == 'chld': forward(17)
        reap()
        continue
    if flaw in ('deaf', 'unreachable'): continue
    if flaw == 'hasty' and got == 15: os._exit(143)
    if flaw in ('once', 'merge') and got in heard and (flaw == 'once' or got >= 34): continue
    if flaw == 'no-cont' and got == 18: continue
    if flaw == 'no-hup' and got == 1: continue
    heard.add(got)
    forward(got)
    if flaw == 'twice': time.sleep(.02); forward(got)
