#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""make install and uninstall, and the demonstration of make run."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "support"))
from relay import PATIENCE, Cases, ekiden_binary, free_port, wait_until  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
MAKE = shlex.split(os.environ.get("EKIDEN_MAKE", "make --no-print-directory -C " + shlex.quote(TOP)))


def make(*args, umask=0o022):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    p = subprocess.run([*MAKE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env,
                       stderr=subprocess.STDOUT, text=True, umask=umask, timeout=PATIENCE * 4)
    assert p.returncode == 0, p.stdout
    return p.stdout


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(base, n), folder)
                  for base, _, names in os.walk(folder) for n in names)


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def installs_what_finds_itself():
    """Installs what finds its programs, its settings and its places"""
    to = tempfile.mkdtemp(prefix="ekiden-test-")
    try:
        make("install", "DESTDIR=" + to, umask=0o077)
        for base, folders, names in os.walk(to):
            for name in folders + names:
                path = os.path.join(base, name)
                wanted = 0o755 if name in folders or "/bin" in base or "/libexec" in base else 0o644
                assert os.stat(path).st_mode & 0o777 == wanted, path
        command = to + "/usr/local/bin/ekiden"

        def ekiden(*args):
            return subprocess.run([command, *args], stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=PATIENCE).stdout

        settings = re.search(r"or (/\S+)\n", ekiden("help"))[1]
        assert sorted(os.listdir(to + settings)) == ["main.cf", "master.cf"], settings
        places = [ekiden("-c", to + settings, "conf", "-d", "-h", name).strip()
                  for name in ("queue_directory", "data_directory")]
        assert all(os.path.isdir(to + p) for p in places), places
        lib = to + "/usr/local/lib/"
        unit = read(lib, "systemd/system/ekiden.service")
        assert "/master -c %s\n" % settings in unit and "ekiden -c %s reload\n" % settings in unit, unit
        assert "ReadWritePaths=%s\n" % " ".join(places) in unit, unit
        for path in re.findall(r"^Exec\w+=(\S+)", unit, re.M):
            assert os.access(to + path, os.X_OK), path
        assert re.findall(r"^d (\S+)", read(lib, "tmpfiles.d/ekiden.conf"), re.M) == places
        for name in files_below(to):
            if "/bin/" not in name and "/libexec/" not in name and not name.endswith("README.md"):
                text = read(to, name)
                assert not re.search(r"@\w+dir@", text), name
                assert settings == "/etc/ekiden" or not re.search(r"(?<!\w)/etc/ekiden", text), name

        # Again, with settings of one's own: they stay.
        with open(to + settings + "/main.cf", "a") as f:
            f.write("myhostname = mine.example.com\n")
        make("install", "DESTDIR=" + to)
        assert "mine.example.com" in read(to + settings, "main.cf")
        assert sorted(os.listdir(to + settings)) == ["main.cf", "main.cf.new", "master.cf"]
        assert "mine.example.com" not in read(to + settings, "main.cf.new")

        # Mail may wait: what is not the program's stays.
        with open(to + places[0] + "/mail", "w"):
            pass
        make("uninstall", "DESTDIR=" + to)
        assert files_below(to) == sorted([os.path.relpath(to + settings + "/" + n, to) for n in
                                          ("main.cf", "main.cf.new", "master.cf")] +
                                         [os.path.relpath(to + places[0] + "/mail", to)]), files_below(to)
    finally:
        shutil.rmtree(to)


def demonstrates(number):
    """Shows a verified message, stays up, and ends at"""
    env = {**os.environ, "EKIDEN_DEMO_PORT": str(free_port())}
    out = tempfile.NamedTemporaryFile("r", prefix="ekiden-test-")

    def said():
        out.seek(0)
        return out.read()

    # As a shell does behind "&".
    p = subprocess.Popen([sys.executable, TOP + "/tests/support/demo", "run"], stdin=subprocess.DEVNULL,
                         stdout=open(out.name, "w"), stderr=subprocess.STDOUT, env=env,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        wait_until(lambda: "Ctrl-C" in said() or p.poll() is not None, "it tells how to end it")
        text = said()
        assert "signature verified by python3-dkim" in text and "delivered by" in text, text
        assert ("without jails" in text) == (os.geteuid() != 0), text
        folder = re.search(r"^Starting a relay in (\S+)", text, re.M)[1]
        status = [ekiden_binary(), "-c", folder + "/etc", "status"]
        assert subprocess.run(status, stdout=subprocess.DEVNULL, timeout=PATIENCE).returncode == 0
        p.send_signal(number)
        assert p.wait(PATIENCE) == 0 and "stopping" in said(), said()
        assert not os.path.exists(folder), folder
    finally:
        if p.poll() is None:
            p.terminate()
            p.wait(PATIENCE)


cases = Cases()
cases.run(installs_what_finds_itself)
for each in (signal.SIGINT, signal.SIGTERM):
    cases.run(demonstrates, each, name="%s %s" % (demonstrates.__doc__, each.name))
cases.end()
