# SPDX-License-Identifier: Apache-2.0
"""A name server that is not ours, for tests: knot, on a free port of loopback."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from relay import free_port

CONF = """
server:
    rundir: {dir}
    listen: 127.0.0.1@{port}
database:
    storage: {dir}/db
policy:
  - id: fast
    algorithm: ecdsap256sha256
template:
  - id: default
    storage: {dir}
    file: "%s.zone"
    zonefile-load: difference-no-serial
    journal-content: all
zone:
"""
SIGNED = "    dnssec-signing: on\n    dnssec-policy: fast\n"


class Knot:
    """zones: {"signed.lab": (True, "@ MX 10 mx\\n...")}, True for signed; SOA, NS and TTL are
    added. server is for dns_servers. port: where a namespace of its own allows 53."""

    def __init__(self, zones, port=None):
        self.port = port or free_port()
        self.server = f"127.0.0.1@{self.port}"
        self.dir = tempfile.mkdtemp(prefix="ekiden-knot.")
        os.mkdir(self.dir + "/db")
        conf = CONF.format(dir=self.dir, port=self.port)
        for name, (signed, records) in zones.items():
            conf += f"  - domain: {name}\n" + (SIGNED if signed else "")
            with open(f"{self.dir}/{name}.zone", "w", encoding="utf-8") as f:
                f.write(f"$ORIGIN {name}.\n$TTL 300\n@ SOA ns root 1 3600 600 86400 60\n"
                        f"@ NS ns\nns A 127.0.0.1\n{records}")
        with open(self.dir + "/knot.conf", "w", encoding="utf-8") as f:
            f.write(conf)
        self.log = open(self.dir + "/log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["/usr/sbin/knotd", "-c", self.dir + "/knot.conf"], stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log)
        try:
            for name, (signed, _) in zones.items():
                self._wait(lambda name=name, signed=signed: self.dig(
                    name, "DNSKEY" if signed else "SOA"), f"knot serves {name}")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _wait(self, what, why):
        until = time.monotonic() + 60
        while not what():
            if self.process.poll() is not None or time.monotonic() > until:
                with open(self.dir + "/log", encoding="utf-8") as f:
                    raise AssertionError(f"waited in vain: {why}\n{f.read()[-2000:]}")
            time.sleep(0.05)

    def dig(self, name, kind):
        """The records, as kdig +short writes them."""
        r = subprocess.run(
            ["kdig", "+short", "+time=1", "+retry=0", "@127.0.0.1", "-p", str(self.port), name,
             kind], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, timeout=20, check=False)
        return [line for line in r.stdout.split("\n") if line and not line.startswith(";")]

    def anchor(self, name):
        """The zone's keys as a trust anchor file has them."""
        return "".join(f"{name}. IN DNSKEY {key} ; a comment\n"
                       for key in self.dig(name, "DNSKEY") if key.startswith("257 "))

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
