#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""The relay between programs that are not ours: swaks, smtplib, msmtp and Postfix in front, in
clear and with STARTTLS; Postfix, Exim and smtp-sink behind, on port 25 of addresses that MX records
of a real name server give. What leaves is, byte for byte, what came.

All of it happens in a network and mount namespace of the test's own, with a copy of /etc: nothing of
the system's mail service is touched. Needs root."""

import base64
import collections
import glob
import os
import re
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))

try:
    import dkim
except ImportError:
    # Debian's package is for Debian's Python, which need not be the first in the path.
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

from knot import Knot  # noqa: E402
from relay import Cases, Relay, wait_until  # noqa: E402

SENDERS = {"plain": "plain@front.lab", "tls": "tls@front.lab"}
POSTFIX, EXIM, SINK, FRONT = "127.0.0.11", "127.0.0.12", "127.0.0.13", "127.0.0.21"
EXIM_PACKAGE = "exim4-daemon-light"
EXIM_MESSAGES_A_CONNECTION = 40

LINE = b"A line of some eighty bytes, as they are found in large bodies of mail, often."
BODIES = {
    "text": b"Hello,\r\n\r\nworld.\r\n",
    "dots": b".\r\n..\r\n...\r\n.hidden\r\nin.side\r\n\r\n.\r\n. \r\n ..\r\n.\r\n",
    "line of 998": b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\n",
    "line of 1,500": b"x" * 1500 + b"\r\nshort\r\n",
    "line of 70,000": b"." + b"x" * 69999 + b"\r\n.y" + b"y" * 65533 + b"\r\n",
    "8-bit": b"\xe9t\xe9 \xff\xfe\x80\r\n" + "駅伝\r\n".encode() + bytes(range(1, 10)) + b"\x0b\x0c" +
             bytes(range(14, 256)) + b"\r\n",
    "empty": b"",
    "no final newline": b"one\r\n.two\r\nthree and no more",
    "5 MB": (LINE + b"\r\n" + b".." + LINE + b"\r\n") * (5_000_000 // (2 * len(LINE) + 6)),
}


def sh(*argv, **kw):
    done = subprocess.run(argv, stdin=kw.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, timeout=120, **kw)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n"
                             f"{done.stdout.decode('utf-8', 'replace')[-3000:]}")
    return done.stdout


def message(ident, sender, body):
    return (f"From: {sender}\r\nTo: someone@pf.lab\r\nSubject: {ident}\r\n"
            "Date: Thu, 26 Nov 2026 21:19:42 +0000\r\n"
            f"Message-ID: <{ident}@front.lab>\r\nX-Test-Id: {ident}\r\n\r\n").encode() + body


def as_stored(body):
    """How a mailbox with LF line ends has it."""
    text = body.replace(b"\r\n", b"\n")
    return text if not text or text.endswith(b"\n") else text + b"\n"


# ---- who receives ------------------------------------------------------------------------------

class Receiver:
    """Messages as files in `box`, one each; mail for `domain` comes here."""

    offers_tls = True

    def __init__(self, domain, address, box):
        self.domain, self.address, self.box = domain, address, box
        self.cache = {}

    def files(self):
        return glob.glob(self.box + "/*")

    def clean(self, raw):
        return raw

    def content(self, path):
        """Header, body."""
        with open(path, "rb") as f:
            head, _, body = self.clean(f.read()).partition(b"\n\n")
        return head + b"\n", body

    def idents(self):
        found = collections.Counter()
        for path in self.files():
            if path not in self.cache:
                head, _ = self.content(path)
                got = re.search(rb"^X-Test-Id: (\S+)$", head, re.M)
                if got is None:
                    continue  # being written
                self.cache[path] = got.group(1).decode()
            found[self.cache[path]] += 1
        return found

    def path(self, ident):
        return next(p for p, i in self.cache.items() if i == ident)


class Process:
    """A program in the foreground, ended by its id."""

    def __init__(self, argv, log, **kw):
        self.log = open(log, "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, **kw)

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def greets(address):
    try:
        with smtplib.SMTP(address, 25, timeout=30):
            return True
    except OSError:
        return False


class Sink(Receiver):
    offers_tls = False

    def __init__(self, scratch):
        super().__init__("sink.lab", SINK, scratch + "/sink")
        os.mkdir(self.box)
        os.chmod(self.box, 0o777)
        self.server = Process(["smtp-sink", "-u", "nobody", "-h", "mx.sink.lab", "-d", self.box + "/m.",
                               SINK + ":25", "100"], scratch + "/sink.log")
        wait_until(lambda: greets(SINK), "smtp-sink listens")

    def clean(self, raw):
        # It puts its own lines in front, and an empty one behind.
        return raw.partition(b"\n\tby mx.sink.lab ")[2].partition(b"\n")[2].partition(b"\n")[2][:-1]

    def close(self):
        self.server.close()


class Exim(Receiver):
    CONF = """
exim_path = {program}
spool_directory = {dir}/spool
log_file_path = {dir}/log.%slog
primary_hostname = mx.exim.lab
local_interfaces = {address}
daemon_smtp_ports = 25
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
message_size_limit = 50M
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = {most}
smtp_accept_max = 100
queue_run_max = 1
qualify_domain = exim.lab
never_users =
acl_smtp_rcpt = fine
begin acl
fine:
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {dir}/box
  maildir_format
  user = Debian-exim
  check_string =
  escape_string =
begin retry
* * F,1d,1s
"""

    def __init__(self, scratch, program, cert, key):
        self.dir = scratch + "/exim"
        super().__init__("exim.lab", EXIM, self.dir + "/box/new")
        for d in (self.dir, self.dir + "/box", self.dir + "/spool"):
            os.mkdir(d)
            shutil.chown(d, "Debian-exim", "Debian-exim")
        os.makedirs("/etc/exim4", exist_ok=True)  # of the private copy
        with open("/etc/exim4/exim4.conf", "w", encoding="ascii") as f:
            f.write(self.CONF.format(program=program, dir=self.dir, address=EXIM, cert=cert, key=key,
                                     most=EXIM_MESSAGES_A_CONNECTION))
        os.chmod("/etc/exim4/exim4.conf", 0o644)
        self.server = Process([program, "-bdf", "-q1m"], scratch + "/exim.log")
        wait_until(lambda: greets(EXIM), "Exim listens")

    def close(self):
        self.server.close()


class Postfix:
    """An instance of its own, in folders of its own."""

    MAIN = """
compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {dir}/log
maillog_file_prefixes = /tmp
inet_interfaces = {address}
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
message_size_limit = 50000000
mailbox_size_limit = 0
smtputf8_enable = no
"""
    SERVICES = """
{address}:25 inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
smtptls unix - - n - - smtp -o smtp_tls_security_level=encrypt
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

    def __init__(self, scratch, name, address, settings):
        self.dir = f"{scratch}/{name}"
        self.etc = self.dir + "/etc"
        os.makedirs(self.etc)
        for d in ("spool", "lib"):
            os.mkdir(f"{self.dir}/{d}")
        shutil.chown(self.dir + "/lib", "postfix", "postfix")
        with open(self.etc + "/main.cf", "w", encoding="ascii") as f:
            f.write(self.MAIN.format(dir=self.dir, address=address) +
                    "".join(f"{k} = {v}\n" for k, v in settings.items()))
        with open(self.etc + "/master.cf", "w", encoding="ascii") as f:
            f.write(self.SERVICES.format(address=address))
        for path in glob.glob("/etc/postfix/dynamicmaps.cf*") + glob.glob("/etc/postfix/postfix-files*"):
            sh("cp", "-r", path, self.etc)
        self.pid = None
        # Not by a pipe: what it starts would hold that.
        with open(self.dir + "/start", "wb") as out:
            done = subprocess.run(["postfix", "-c", self.etc, "start"], stdin=subprocess.DEVNULL,
                                  stdout=out, stderr=out, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{name} does not start: {self.said()}")
        with open(self.dir + "/spool/pid/master.pid", encoding="ascii") as f:
            self.pid = int(f.read())
        wait_until(lambda: greets(address), name + " listens")

    def said(self):
        return "".join(open(p, encoding="utf-8", errors="replace").read()[-3000:]
                       for p in (self.dir + "/start", self.dir + "/log") if os.path.exists(p))

    def close(self):
        if self.pid is None:
            return
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{self.pid}/exe") or
                   not os.readlink(f"/proc/{self.pid}/exe").startswith("/usr/lib/postfix"),
                   "Postfix ends")


class PostfixReceiver(Receiver):
    def __init__(self, scratch, cert, key):
        boxes = scratch + "/postfix-boxes"
        super().__init__("pf.lab", POSTFIX, boxes + "/all/new")
        os.mkdir(boxes)
        shutil.chown(boxes, "nobody", "nogroup")
        nobody, nogroup = os.stat(boxes).st_uid, os.stat(boxes).st_gid
        self.server = Postfix(scratch, "postfix", POSTFIX, {
            "myhostname": "mx.pf.lab", "virtual_mailbox_domains": "pf.lab",
            "virtual_mailbox_maps": "static:all/", "virtual_mailbox_base": boxes,
            "virtual_minimum_uid": 1, "virtual_mailbox_limit": 0,
            "virtual_uid_maps": f"static:{nobody}", "virtual_gid_maps": f"static:{nogroup}",
            "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key})

    def close(self):
        self.server.close()


# ---- who sends ---------------------------------------------------------------------------------

def stuffed(content):
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", content) + b".\r\n"


class Front:
    """send() hands one message to the relay, by way of the program that it is named after."""

    def __init__(self, port, scratch, postfix):
        self.port, self.scratch, self.postfix = port, scratch, postfix

    def _file(self, content):
        path = self.scratch + "/outgoing"
        with open(path, "wb") as f:
            f.write(content)
        return path

    def swaks(self, sender, rcpts, content, tls):
        # Without its own changes of the text: what it sends is what is in the file.
        sh("swaks", "--server", "127.0.0.1", "--port", str(self.port), "--ehlo", "client.front.lab",
           "--from", sender, "--to", ",".join(rcpts), "--no-data-fixup", "--hide-all", "--timeout", "60",
           "--pipeline", "--data", "@" + self._file(stuffed(content)), *(["--tls"] if tls else []))

    def smtplib(self, sender, rcpts, content, tls, address="127.0.0.1", port=None):
        with smtplib.SMTP(address, port or self.port, timeout=60) as c:
            if tls:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                c.starttls(context=context)
            c.ehlo()
            assert not c.sendmail(sender, rcpts, content, ["BODY=8BITMIME"])

    def msmtp(self, sender, rcpts, content, tls):
        how = ["on", "--tls-starttls=on", "--tls-certcheck=off"] if tls else ["off"]
        with open(self._file(content.replace(b"\r\n", b"\n")), "rb") as f:
            sh("msmtp", "--file=/dev/null", "--host=127.0.0.1", f"--port={self.port}",
               "--tls=" + how[0], *how[1:], "--auth=off", "--from=" + sender, "--domain=client.front.lab",
               "--timeout=60", "--", *rcpts, stdin=f)

    def relaying_postfix(self, sender, rcpts, content, tls):
        # Which of its transports is used depends on the sender: see main().
        assert sender == SENDERS["tls" if tls else "plain"]
        self.smtplib(sender, rcpts, content, False, FRONT, 25)


# ---- the stage ---------------------------------------------------------------------------------

class Stage:
    def __init__(self, scratch, exim):
        self.open = []
        self.scratch = scratch
        self.cert, self.key = scratch + "/cert.pem", scratch + "/key.pem"
        sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
           "/CN=lab", "-keyout", self.key, "-out", self.cert)
        os.chmod(self.key, 0o644)  # Exim reads it as its own user
        self.dkim_key = scratch + "/dkim.pem"
        sh("openssl", "genrsa", "-out", self.dkim_key, "2048")
        public = base64.b64encode(subprocess.run(
            ["openssl", "rsa", "-in", self.dkim_key, "-pubout", "-outform", "DER"], check=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout).decode()
        self.record = f"v=DKIM1; h=sha256; k=rsa; p={public}"
        half = len(self.record) // 2
        self.receivers = []
        try:
            self._start(exim, f'"{self.record[:half]}" "{self.record[half:]}"')
        except BaseException:
            self.close()
            raise

    def _start(self, exim, txt):
        def mx(address):
            return f"@ MX 10 mx\nmx A {address}\n"
        self.open.append(Knot({"front.lab": (False, f"rs._domainkey TXT {txt}\n"),
                               "pf.lab": (False, mx(POSTFIX)), "exim.lab": (False, mx(EXIM)),
                               "sink.lab": (False, mx(SINK))}, port=53))
        self.open.append(PostfixReceiver(self.scratch, self.cert, self.key))
        self.receivers.append(self.open[-1])
        if exim:
            self.open.append(Exim(self.scratch, exim, self.cert, self.key))
            self.receivers.append(self.open[-1])
        self.open.append(Sink(self.scratch))
        self.receivers.append(self.open[-1])
        self.relay = Relay(
            start=False, dns_servers="127.0.0.1@53", message_size_limit=20_000_000,
            smtpd_tls_security_level="may", smtpd_tls_cert_file=self.cert,
            smtpd_tls_key_file=self.key, smtp_tls_security_level="may",
            default_destination_concurrency_limit=2, smtp_connection_cache_time_limit="60s",
            minimal_backoff_time="1s", maximal_backoff_time="2s")
        table = os.path.join(self.relay.etc, "dkim_keys")
        with open(table, "w", encoding="ascii") as f:
            f.write(f"front.lab rs:{self.dkim_key}\n")
        self.relay.set(dkim_keys="texthash:" + table)
        self.open.append(self.relay)
        self.relay.start()
        self.open.append(Postfix(self.scratch, "front", FRONT, {
            "myhostname": "out.front.lab", "mynetworks": "127.0.0.0/8",
            "relayhost": f"[127.0.0.1]:{self.relay.port}", "smtp_line_length_limit": 0,
            "smtp_tls_security_level": "none",
            "sender_dependent_default_transport_maps":
                "inline:{{%s = smtptls:}, {%s = smtp:}}" % (SENDERS["tls"], SENDERS["plain"])}))
        self.front = Front(self.relay.port, self.scratch, self.open[-1])

    def close(self):
        while self.open:
            it = self.open.pop()
            try:
                it.close()
            except Exception as e:  # the others are ended all the same
                print(f"# closing {type(it).__name__}: {e}", flush=True)

    def rcpts(self):
        return ["someone@" + r.domain for r in self.receivers]

    def wait_for(self, idents):
        for r in self.receivers:
            try:
                wait_until(lambda: r.idents().keys() >= idents, f"{r.domain} has all", None, 0.2)
            except AssertionError as e:
                missing = sorted(idents - r.idents().keys())
                raise AssertionError(f"{e}: {len(missing)} are missing, such as {missing[:5]}") from e
            often = {i: n for i, n in r.idents().items() if n != 1 and i in idents}
            assert not often, f"{r.domain} has some more than once: {often}"

    # ---- cases ----

    def fidelity(self, name, tls):
        sender = SENDERS["tls" if tls else "plain"]
        bodies = {}
        for i, (what, body) in enumerate(BODIES.items()):
            ident = f"{name}-{'tls' if tls else 'plain'}-{i}"
            bodies[ident] = (what, body)
            getattr(self.front, name)(sender, self.rcpts(), message(ident, sender, body), tls)
        self.wait_for(bodies.keys())
        self.relay.drained()  # so smtp-sink's files are whole
        for r in self.receivers:
            for ident, (what, body) in bodies.items():
                _, got = r.content(r.path(ident))
                want = as_stored(body)
                assert got == want, f"{r.domain}, {what}: {differs(got, want)}"
        self.check_accepted(bodies, tls)

    def check_accepted(self, idents, tls):
        accepted = {e["message_id"].strip("<>").split("@")[0]: e
                    for e in self.relay.events() if e["event"] == "accepted"}
        for ident in idents:
            e = accepted[ident]
            assert bool(e["tls"]) == tls and e["protocol"] == ("ESMTPS" if tls else "ESMTP"), e
            assert e["dkim"].strip() == "front.lab:rs", e

    def opportunistic_tls(self):
        """TLS is used where it is offered, and mail goes in clear where it is not"""
        attempts = [e for e in self.relay.events() if e["event"] == "attempt"]
        for r in self.receivers:
            mine = [e for e in attempts if e["rcpt"].endswith("@" + r.domain)]
            assert mine, r.domain
            for e in mine:
                assert e["result"] == "delivered" and e["addr"].startswith(r.address), e
                assert e["host"] == "mx." + r.domain, e
                assert ("TLSv1" in e["tls"]) == r.offers_tls, e

    def signatures(self):
        """every message that arrived has a signature that python3-dkim verifies"""
        self.look_ups = collections.Counter()

        def look_up(name, timeout=5):
            self.look_ups[name] += 1
            return self.record.encode()

        judged = 0
        for r in self.receivers:
            for ident in r.idents():
                head, body = r.content(r.path(ident))
                text = (head + b"\n" + body).replace(b"\n", b"\r\n")
                judge = dkim.DKIM(text)
                assert judge.verify(dnsfunc=look_up), f"{r.domain}, {ident}"
                judged += 1
        assert judged and set(self.look_ups) == {b"rs._domainkey.front.lab."}, self.look_ups
        print(f"# {judged} verified")

    def signatures_by_opendkim(self):
        """every body that arrived has a signature that opendkim-testmsg verifies"""
        for r in self.receivers:
            for ident in (i for i in r.idents() if not i.startswith("many-")):
                head, body = r.content(r.path(ident))
                path = self.scratch + "/judged"
                with open(path, "wb") as f:
                    f.write((head + b"\n" + body).replace(b"\n", b"\r\n"))
                with open(path, "rb") as f:
                    sh("opendkim-testmsg", stdin=f)

    def many_over_few_connections(self, r):
        """Messages faster than they are taken: the next envelope follows behind the content."""
        count, senders = 240, 4
        name = r.domain.split(".", maxsplit=1)[0]
        idents = [f"many-{name}-{i}" for i in range(count)]

        def submit(mine):
            with self.relay.smtp() as c:
                for ident in mine:
                    c.sendmail(SENDERS["plain"], ["someone@" + r.domain],
                               message(ident, SENDERS["plain"], b".\r\n" + ident.encode() + b"\r\n"))
        threads = [threading.Thread(target=submit, args=(idents[n::senders],)) for n in range(senders)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        wait_until(lambda: r.idents().keys() >= set(idents), "all are there", None, 0.2)
        self.relay.drained()
        got = r.idents()
        assert all(got[i] == 1 for i in idents), {i: got[i] for i in idents if got[i] != 1}
        for ident in idents:
            assert r.content(r.path(ident))[1] == b".\n" + ident.encode() + b"\n"
        qids = {e["qid"] for e in self.relay.events()
                if e["event"] == "accepted" and e["message_id"].startswith(f"<many-{name}-")}
        attempts = [e for e in self.relay.events() if e["event"] == "attempt" and e["qid"] in qids]
        assert {e["result"] for e in attempts} == {"delivered"}, \
            [e for e in attempts if e["result"] != "delivered"][:3]
        assert len(attempts) == count and not any(e["maybe_duplicate"] for e in attempts)
        used = {e["connection"] for e in attempts}
        print(f"# {count} messages over {len(used)} connections")
        assert len(used) <= count // 10, f"{len(used)} connections"


def differs(got, want):
    at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
    return (f"{len(got)} bytes for {len(want)}, differs at {at}: {got[max(0, at - 10):at + 30]!r} for "
            f"{want[max(0, at - 10):at + 30]!r}")


# ---- namespaces --------------------------------------------------------------------------------

def fetch_exim(scratch):
    """Unpacked, not installed: Debian's Exim and Postfix exclude each other."""
    folder = scratch + "/exim-package"
    os.mkdir(folder)
    try:
        sh("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", EXIM_PACKAGE, cwd=folder)
        for package in glob.glob(folder + "/*.deb"):
            sh("dpkg", "-x", package, folder + "/root")
    except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
        print(f"# {str(e)[-300:]}")
        return ""
    program = folder + "/root/usr/sbin/exim4"
    ldd = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if ldd.returncode != 0 or b"not found" in ldd.stdout:
        print("# " + ldd.stdout.decode().replace("\n", "\n# "))
        return ""
    return program


def outside():
    cases = Cases()
    if os.geteuid() != 0:
        cases.skip("mail through foreign programs", "needs root")
        cases.end()
    if subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        cases.skip("mail through foreign programs", "no namespaces can be made here")
        cases.end()
    scratch = tempfile.mkdtemp(prefix="ekiden-peers-", dir="/tmp")
    os.chmod(scratch, 0o755)
    try:
        exim = fetch_exim(scratch)
        return subprocess.run(["unshare", "--net", "--mount", "--propagation", "private", sys.executable,
                               os.path.realpath(__file__), *sys.argv[1:]], check=False,
                              env={**os.environ, "PEERS_SCRATCH": scratch, "PEERS_EXIM": exim}).returncode
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def private_etc(scratch):
    """A copy of /etc in place of it, for this namespace alone."""
    copy = scratch + "/private-etc"
    sh("cp", "-a", "/etc", copy)
    with open(copy + "/passwd", "a", encoding="ascii") as f:
        f.write("Debian-exim:x:64999:64999::/nonexistent:/usr/sbin/nologin\n")
    with open(copy + "/group", "a", encoding="ascii") as f:
        f.write("Debian-exim:x:64999:\n")
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("hosts", "127.0.0.1 localhost\n")):
        path = f"{copy}/{name}"
        if os.path.lexists(path):
            os.unlink(path)
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
    sh("mount", "--bind", copy, "/etc")


def inside(scratch, exim):
    sh("ip", "link", "set", "lo", "up")
    for address in (POSTFIX, EXIM, SINK, FRONT):
        # Loopback as it is, but Postfix wants to see them.
        sh("ip", "address", "add", address + "/8", "dev", "lo")
    private_etc(scratch)
    cases = Cases()
    if not exim:
        cases.skip("mail to Exim", f"{EXIM_PACKAGE} could not be downloaded")
    stage = Stage(scratch, exim)
    try:
        for name in ("swaks", "smtplib", "msmtp", "relaying_postfix"):
            for tls in (False, True):
                cases.run(stage.fidelity, name, tls, name=(
                    f"{name.replace('_', ' ')} in front, {'STARTTLS' if tls else 'in clear'}: "
                    "every body arrives as it was, once"))
        cases.run(stage.opportunistic_tls)
        for r in stage.receivers:
            cases.run(stage.many_over_few_connections, r, name=(
                f"many messages over few connections to {r.domain}: each arrives once"))
        cases.run(stage.signatures)
        cases.run(stage.signatures_by_opendkim)
        if cases.failed:
            print("# " + stage.relay.tail(60).replace("\n", "\n# "), flush=True)
    finally:
        stage.close()
    cases.end()


if __name__ == "__main__":
    if "PEERS_SCRATCH" in os.environ:
        inside(os.environ["PEERS_SCRATCH"], os.environ["PEERS_EXIM"])
    sys.exit(outside())
