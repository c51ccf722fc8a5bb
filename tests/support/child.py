# SPDX-License-Identifier: Apache-2.0
"""Runs one of our programs alone: the test is its master and its neighbours. As root it goes to
a real jail, else to what there is of one without root."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from ipc import C, Channel, Closed, ROOT

BUILD = os.environ.get("EKIDEN_BUILD", os.path.join(ROOT, "build"))
NOBODY = 65534


class Refused(Exception):
    """The program did not like the configuration."""


class Child:
    def __init__(self, program, role, params, files=None, index=0, jail=True, log=None):
        self.role = role
        self.epoch = 0
        self.seq = 0
        self.jail = None
        self.lines = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control = Channel(ours)

        def set_up():
            os.dup2(theirs.fileno(), 3, inheritable=True)

        self.process = subprocess.Popen(
            [os.path.join(BUILD, "libexec", program), str(index)], preexec_fn=set_up,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            pass_fds=(3,), env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        theirs.close()
        self.reader = threading.Thread(target=self._read_log, args=(log,), daemon=True)
        self.reader.start()
        try:
            self.control.send("hello", role=C["ROLE_MASTER"], index=0)
            self.control.expect("hello")
            self._identify(jail)
            self.configure(params, files)
            self.control.expect("ready", 60)
        except BaseException:
            self.kill()
            raise

    def _read_log(self, log):
        for line in self.process.stderr:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
            if log:
                log.write(self.lines[-1] + "\n")

    def _identify(self, jail):
        if os.geteuid() != 0 or not jail:
            self.control.send("identity")
            return
        self.jail = tempfile.mkdtemp(prefix="ekiden-jail.")
        os.chmod(self.jail, 0o755)
        self.control.send("identity", uid=NOBODY, gid=NOBODY, jail=self.jail)

    def configure(self, params, files=None):
        """Offers a configuration and has it applied; Refused with the reason if it is not fine."""
        self.epoch += 1
        self.control.send("conf_begin", epoch=self.epoch)
        for name, value in params.items():
            self.control.send("conf_param", name=name, value=value)
        for name, content in (files or {}).items():
            content = content.encode() if isinstance(content, str) else content
            for at in range(0, max(1, len(content)), 32768):
                self.control.send("conf_file", name=name, bytes=content[at:at + 32768])
        self.control.send("conf_end", epoch=self.epoch)
        checked = self.control.expect("conf_checked", 60)
        if checked["text"]:
            self.control.send("conf_forget", epoch=self.epoch)
            raise Refused(checked["text"].decode())
        self.control.send("conf_apply", epoch=self.epoch)
        if self.epoch > 1:
            self.status()  # answered in order: it is in force now, whatever comes by another channel

    def peer(self, role, index=0):
        """A fresh channel between the program and us as that neighbour."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        theirs.setblocking(False)
        self.control.send("peer", role=C[role], index=index, fd=theirs.fileno())
        theirs.close()
        channel = Channel(ours)
        channel.send("hello", role=C[role], index=index)
        hello = channel.expect("hello")
        assert hello["role"] == C[self.role], hello
        return channel

    def status(self):
        self.seq += 1
        self.control.send("ping", seq=self.seq)
        return json.loads(self.control.expect("pong")["status"])

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self._end()

    def stop(self):
        """An orderly end; its exit status."""
        try:
            self.control.send("drain", within_ms=5000)
            while True:
                self.control.receive(30)
        except (Closed, BrokenPipeError, ConnectionResetError):
            pass
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._end()
        return self.process.returncode

    def _end(self):
        self.process.wait()
        self.reader.join(10)
        self.process.stderr.close()
        self.control.close()
        if self.jail:
            shutil.rmtree(self.jail, ignore_errors=True)
            self.jail = None
