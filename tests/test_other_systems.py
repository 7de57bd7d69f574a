"""The package where modules of Unix are missing, as on Windows."""

import subprocess
import sys

import pytest

# What Python has on Unix alone: https://docs.python.org/3/library/unix.html, and of `os` and `signal` what their pages
# mark "Availability: Unix" or "not Windows".
MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog", "readline", "curses", "crypt")
OF_OS = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchdir", "fchmod", "fchown", "fork", "forkpty",
    "getegid", "geteuid", "getgid", "getpgid", "getpgrp", "getsid", "getuid", "killpg", "mkfifo", "nice",
    "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity", "setsid", "statvfs", "sync", "sysconf", "uname",
)  # fmt: skip
OF_SIGNAL = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "alarm", "pthread_sigmask", "setitimer")
SCRIPT = """
import builtins, importlib, os, pkgutil, signal, sys
import transferpipe
(*words, more) = sys.argv[1:]
missing, of_os, of_signal = (w.split() for w in words)
names = [m.name for m in pkgutil.walk_packages(transferpipe.__path__, "transferpipe.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)  # with all that they need of other packages, which are not what is looked at here
for name in [n for n in sys.modules if n.partition(".")[0] == "transferpipe" or n in missing]:
    del sys.modules[name]
for module, words in ((os, of_os), (signal, of_signal)):
    for word in words:
        if hasattr(module, word):
            delattr(module, word)

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
exec(more)
for name in names:
    importlib.import_module(name)
print("imported", len(names))
"""


def run(more=""):
    words = (" ".join(w) for w in (MODULES, OF_OS, OF_SIGNAL))
    return subprocess.run([sys.executable, "-c", SCRIPT, *words, more], capture_output=True, text=True, check=False)


def test_every_module_is_imported_without_what_only_unix_has():
    done = run()
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 200


@pytest.mark.parametrize(("more", "error"), [("import fcntl", "fcntl"), ("os.geteuid", "geteuid")])
def test_what_only_unix_has_is_missing_there(more, error):
    done = run(more)
    assert done.returncode != 0
    assert error in done.stderr.splitlines()[-1]
