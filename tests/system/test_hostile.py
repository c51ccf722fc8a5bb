#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""Clients and servers that mean harm, against a whole relay: smuggling, endless lines, NUL, resets,
half-closed and slow connections, floods of recipients, nonsense for replies, no descriptors left.

Every case demands a defined answer, that nothing is queued which was not acknowledged and confirmed,
that memory stays bounded (not under sanitizers), and that the next mail flows. Nothing here depends
on how fast the machine is: what must happen in the end is waited for."""

import os
import re
import resource
import socket
import ssl
import struct
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))

from certs import Certs  # noqa: E402
from fakemx import CLOSE, RESET, SILENCE, FakeMX, Slowly  # noqa: E402
from relay import PATIENCE, Cases, Relay, free_port, wait_until  # noqa: E402

SAN = bool(os.environ.get("EKIDEN_SAN"))
# What a program may grow by in a case, whatever a peer does: far above its buffers, far below
# what is sent to it.
MEMORY = 48 << 20
A_FROM = "a@home.example"
A_RCPT = "b@there.example"
SIZE_LIMIT = 12_000_000
FEW = 96  # descriptors


# ---- a receiver that keeps the very bytes --------------------------------------------------------

class Wire:
    """One message as it stood on the wire, its end not included."""

    def __init__(self, sender, rcpts, raw):
        self.sender, self.rcpts, self.raw = sender, rcpts, raw
        found = re.search(rb"^X-Test-Id: *(\S+)", raw, re.M)
        self.ident = found.group(1).decode() if found else None

    def is_sound(self):
        """Only CR LF ends lines, no NUL, and every dot at the beginning of a line is doubled."""
        return (re.fullmatch(rb"([^\r\n\0]*\r\n)*", self.raw) is not None and
                re.search(rb"(?:^|\n)\.(?!\.)", self.raw) is None)

    @property
    def body(self):
        return re.sub(rb"(?m)^\.\.", b".", self.raw.partition(b"\r\n\r\n")[2])


class WireSink:
    def __init__(self):
        self.messages, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock):
        pending, sender, rcpts = b"", None, []
        with sock:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(b"220 wire.example\r\n")
                while True:
                    while b"\r\n" not in pending:
                        pending += self._more(sock)
                    line, pending = pending.split(b"\r\n", 1)
                    verb = line[:4].upper()
                    if verb == b"DATA":
                        sock.sendall(b"354 go\r\n")
                        raw, pending = self._content(sock, pending)
                        with self.lock:
                            self.messages.append(Wire(sender, rcpts, raw))
                        rcpts = []
                    elif verb == b"MAIL":
                        sender, rcpts = line, []
                    elif verb == b"RCPT":
                        rcpts.append(line[line.index(b"<") + 1:line.rindex(b">")].decode())
                    sock.sendall({b"EHLO": b"250-wire.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                                  b"QUIT": b"221 bye\r\n"}.get(verb, b"250 2.0.0 ok\r\n"))
                    if verb == b"QUIT":
                        return
            except OSError:
                return

    @staticmethod
    def _more(sock):
        data = sock.recv(1 << 18)
        if not data:
            raise ConnectionError
        return data

    def _content(self, sock, pending):
        parts, tail = [pending], pending
        while b"\r\n.\r\n" not in tail:
            data = self._more(sock)
            parts.append(data)
            tail = tail[-4:] + data
        raw, _, rest = b"".join(parts).partition(b"\r\n.\r\n")
        return raw + b"\r\n", rest

    def of(self, ident):
        with self.lock:
            return [m for m in self.messages if m.ident == ident]

    @property
    def count(self):
        with self.lock:
            return len(self.messages)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # or its thread would go on waiting
        self.listener.close()


# ---- a client that says what it is told ----------------------------------------------------------

class Client:
    def __init__(self, port, hello=True):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        if hello:
            self.expect(220)
            self.say("EHLO client.example", 250)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.sock.close()

    def send(self, data, at_once=True):
        if at_once:
            self.sock.sendall(data)
            return
        for i in range(len(data)):
            self.sock.sendall(data[i:i + 1])

    def line(self):
        """One line; null at the end, however it came."""
        while b"\r\n" not in self.pending:
            try:
                data = self.sock.recv(1 << 18)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            self.pending += data
        line, self.pending = self.pending.split(b"\r\n", 1)
        return line.decode("latin-1")

    def reply(self):
        """The code and the last line's text; null at the end."""
        while True:
            line = self.line()
            if line is None:
                return None
            assert re.match(r"\d{3}[ -]", line) and len(line) <= 510 and line.isprintable(), line
            if line[3] == " ":
                return int(line[:3]), line[4:]

    def expect(self, *codes):
        got = self.reply()
        assert got is not None and got[0] in codes, f"{got} for {codes}"
        return got

    def say(self, line, *codes):
        self.send(line.encode("latin-1") + b"\r\n")
        return self.expect(*codes)

    def envelope(self):
        self.say(f"MAIL FROM:<{A_FROM}>", 250)
        self.say(f"RCPT TO:<{A_RCPT}>", 250)

    def data(self):
        self.envelope()
        self.say("DATA", 354)

    def rest(self):
        """All codes up to the end of the connection."""
        codes = []
        while True:
            got = self.reply()
            if got is None:
                return codes
            codes.append(got[0])

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def start_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)
        self.pending = b""


def header(ident):
    return f"From: {A_FROM}\r\nSubject: x\r\nX-Test-Id: {ident}\r\n".encode()


# ---- the stage -----------------------------------------------------------------------------------

class Stage:
    """One relay with listeners of several kinds, and the receiver behind it."""

    OPTIONS = {
        "reject": ["smtpd_forbid_bare_newline=reject"],
        "hasty": ["smtpd_timeout=2s", "smtpd_command_time_limit=4s", "smtpd_data_time_limit=10s",
                  "smtpd_starttls_timeout=2s"],
        "patient": ["smtpd_hard_error_limit=1000000", "smtpd_soft_error_limit=1000000",
                    "smtpd_junk_command_limit=1000000"],
    }

    def __init__(self):
        self.sink = WireSink()
        cert, key = CERT
        self.port_of = {name: free_port() for name in self.OPTIONS}
        self.relay = Relay(
            start=False, message_size_limit=SIZE_LIMIT, relayhost=f"[127.0.0.1]:{self.sink.port}",
            smtpd_tls_security_level="may", smtpd_tls_cert_file=cert, smtpd_tls_key_file=key,
            smtpd_error_sleep_time="0s", minimal_backoff_time="1s", maximal_backoff_time="2s",
            default_destination_recipient_limit=1000,
            master_cf="".join(f"127.0.0.1:{self.port_of[n]} inet n - n - - smtpd " +
                              " ".join("-o " + o for o in options) + "\n"
                              for n, options in self.OPTIONS.items()))
        self.relay.start()
        self.pids = self.relay.pids()
        self.port_of["plain"] = self.relay.port
        self.serial = 0

    def close(self):
        self.relay.close()
        self.sink.close()

    def client(self, kind="plain", **kw):
        return Client(self.port_of[kind], **kw)

    def ident(self, what):
        self.serial += 1
        return f"{what}-{self.serial}"

    def send(self):
        """A message that is as it should be; returns its id."""
        ident = self.ident("good")
        self.relay.send(A_FROM, [A_RCPT], header(ident) + b"\r\nfine\r\n")
        return ident

    def settle(self):
        """All that was queued is out, and a good message passes: so nothing else is on its way."""
        ident = self.send()
        wait_until(lambda: self.sink.of(ident), "a good message passes\n" + self.relay.tail())
        self.relay.drained()

    def only(self, ident):
        """Exactly one message of that id arrived, and it is sound on the wire."""
        self.settle()
        got = self.sink.of(ident)
        assert len(got) == 1, f"{len(got)} of {ident} arrived"
        assert got[0].is_sound(), got[0].raw
        assert got[0].rcpts == [A_RCPT], got[0].rcpts
        return got[0]

    def none(self, *idents):
        self.settle()
        for ident in idents:
            assert not self.sink.of(ident), ident


STAGE = None
CERT = None  # files: chain and key


def anon(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next((int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon:")), 0)


class Memory:
    """Watches what the programs hold while the block runs."""

    def __init__(self, relay):
        self.pids = relay.pids()
        self.before = {}
        self.most = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _look(self):
        for name, pid in self.pids.items():
            try:
                now = anon(pid)
            except OSError:
                continue
            self.before.setdefault(name, now)
            self.most[name] = max(now, self.most.get(name, 0))

    def _watch(self):
        while not self.done.wait(0.05):
            self._look()

    def __enter__(self):
        self._look()
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self._look()
        self.done.set()
        self.thread.join()
        if kind is None and not SAN:
            grown = {n: m - self.before[n] for n, m in self.most.items() if m - self.before[n] > MEMORY}
            assert not grown, f"grown by {grown}"


def quietly(function):
    """Runs function in the background; what it meets at the end of its connection is of no interest."""
    def run():
        try:
            function()
        except OSError:
            pass
    t = threading.Thread(target=run, daemon=True)
    t.start()
    return t


# ---- smuggling -----------------------------------------------------------------------------------

SEQUENCES = [b"\n.\n", b"\r.\r", b"\r.\n", b"\n.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r",
             b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n\n.\r\n"]
EVIL = b"MAIL FROM:<evil@home.example>\r\nRCPT TO:<victim@there.example>\r\nDATA\r\nX-Test-Id: evil\r\n\r\nX"


def name_of(sequence):
    return repr(sequence)[2:-1]


def smuggle(kind, sequence, place, at_once):
    """Sends one message with the sequence in it; returns its id and what was said behind the 354."""
    ident = STAGE.ident("smuggle")
    with STAGE.client(kind) as c:
        c.data()
        content = {"body": header(ident) + b"\r\nbody" + sequence + EVIL,
                   "header": header(ident) + b"X-More: x" + sequence + EVIL,
                   "start": header(ident) + b"\r\n" + sequence + EVIL}[place]
        c.send(content + b"\r\n.\r\nQUIT\r\n", at_once)
        return ident, c.rest()


def smuggling_is_normalized(sequence):
    sent = []
    for place in ("body", "header", "start"):
        for at_once in (True, False):
            ident, codes = smuggle("plain", sequence, place, at_once)
            # One reply for what is one message, then QUIT's.
            assert codes == [554 if b"\0" in sequence else 250, 221], (place, codes)
            sent.append(ident)
    if b"\0" in sequence:
        STAGE.none(*sent, "evil")
        return
    for ident in sent:
        m = STAGE.only(ident)
        assert b"\r\nMAIL FROM:<evil@home.example>\r\nRCPT TO:" in m.raw, m.raw
        # However a receiver ends lines, it sees one message: no line is a single dot.
        assert b"." not in re.split(rb"[\r\n]+", m.raw)
    assert not STAGE.sink.of("evil")


def smuggling_is_refused(sequence):
    sent = []
    for place in ("body", "header", "start"):
        for at_once in (True, False):
            ident, codes = smuggle("reject", sequence, place, at_once)
            bare = re.search(rb"\r(?!\n)|(?<!\r)\n", sequence) is not None
            assert codes == ([550] if bare else [554, 221]), (place, codes)
            sent.append(ident)
    STAGE.none(*sent, "evil")


# ---- lines, NUL, sizes ---------------------------------------------------------------------------

def command_lines():
    """command lines: 512 octets and more are taken, too long ones earn one 500, the session goes on"""
    with STAGE.client() as c:
        for n in (512, 513, 1000, 1001, 2048):
            c.say("NOOP " + "x" * (n - 7), 250)
        for n in (2049, 4096, 20000):
            c.say("NOOP " + "x" * (n - 7), 500)
            c.say("NOOP", 250)
        c.say("MAIL FROM:<" + "x" * 60 + "@" + "y" * 1800 + ">", 501)
        c.say("NOOP", 250)


def bad_line_ends_in_commands():
    """a lone LF or CR ends no command, and nothing behind it runs"""
    ident = STAGE.ident("lf")
    for end in (b"\n", b"\r", b"\r\r\n", b"\n\n", b"\0\r\n"):
        with STAGE.client() as c:
            evil = end.join([b"NOOP", b"MAIL FROM:<evil@home.example>", b"RCPT TO:<" + A_RCPT.encode() + b">",
                             b"DATA", header(ident).replace(b"\r\n", end), b".", b"QUIT"])
            c.send(evil + b"\r\nQUIT\r\n")
            codes = c.rest()
            assert codes and all(n // 100 == 5 or n in (221, 421) for n in codes), (end, codes)
    STAGE.none(ident)


def endless_lines_in_commands():
    """ten megabytes without CR LF: one 500, then the connection ends; memory stays bounded"""
    for start in (b"", b"NOOP ", b"MAIL FROM:<", b"\0"):
        with Memory(STAGE.relay), STAGE.client() as c:
            sender = quietly(lambda c=c, start=start: c.send(start + b"x" * 10_000_000))
            assert c.rest() == [500]
            sender.join(PATIENCE)
    STAGE.settle()


def nul_octets():
    """NUL octets: refused in commands and in content, and nothing is cut short there"""
    idents = [STAGE.ident("nul") for _ in range(2)]
    with STAGE.client() as c:
        c.say("NOOP a\0b", 501)
        c.say("NO\0OP", 500)
        c.say("MAIL FROM:<a\0b@home.example>", 501)
        c.say("MAIL FROM:<a@home.example\0.evil.example>", 501)
        c.say(f"MAIL FROM:<{A_FROM}>", 250)
        c.say("RCPT TO:<b\0c@there.example>", 501)
        c.say("RSET", 250)
        for ident, content in zip(idents, (header("%s") + b"\r\nbo\0dy\r\n", b"Nul: \0\r\n" + header("%s") + b"\r\nx\r\n")):
            c.data()
            c.send(content.replace(b"%s", ident.encode()) + b".\r\n")
            c.expect(554)
            c.say("RCPT TO:<c@there.example>", 503)
    STAGE.none(*idents)


def long_lines_in_content():
    """lines of content of every length arrive byte for byte, ten megabytes too"""
    for n in (998, 999, 1000, 2048, 65535, 65536, 10_000_000):
        ident = STAGE.ident("long")
        body = b"z" * n + b"\r\n." + b"z" * (n - 1) + b"\r\n" if n < 1_000_000 else b"z" * n + b"\r\n"
        with Memory(STAGE.relay), STAGE.client() as c:
            c.data()
            c.send(header(ident) + b"\r\n" + re.sub(rb"(?m)^\.", b"..", body) + b".\r\n")
            c.expect(250)
            assert STAGE.only(ident).body == body, n


def sizes():
    """content over the size limit, of whatever lines: 552 once it ends, or 421 far beyond; nothing is queued"""
    idents = []
    for line in (b"From x\r\n", b"y" * 500, b"\r\n", b"..\r\n", b"X: y\r\n"):
        idents.append(STAGE.ident("size"))
        with Memory(STAGE.relay), STAGE.client() as c:
            c.data()
            many = line * (SIZE_LIMIT // len(line) * 3 // 2)
            sender = quietly(lambda c=c, i=idents[-1], many=many: c.send(
                (b"From x\r\n" if many.startswith(b"From") else b"") + header(i) + b"\r\n" + many + b"\r\n.\r\nQUIT\r\n"))
            codes = c.rest()
            assert codes in ([552, 221], [421]), (line, codes)
            sender.join(PATIENCE)
        idents.append(STAGE.ident("size"))
        with Memory(STAGE.relay), STAGE.client() as c:
            c.data()

            def endless(c=c, i=idents[-1], line=line):
                c.send(header(i) + b"\r\n")
                block = line * (200_000 // len(line))
                for _ in range(2000):
                    c.send(block)
            sender = quietly(endless)
            assert c.rest() in ([421], []), line
            sender.join(PATIENCE)
    STAGE.none(*idents)
    with STAGE.client() as c:
        c.say(f"MAIL FROM:<{A_FROM}> SIZE={SIZE_LIMIT + 1}", 552)
        c.say(f"MAIL FROM:<{A_FROM}> SIZE=99999999999999999999999", 501, 552)


# ---- other protocols, commands out of place --------------------------------------------------------

def foreign_protocols():
    """HTTP and TLS where SMTP is spoken: one refusal, the end, and nothing further is parsed"""
    ident = STAGE.ident("http")
    smtp = f"HELO x\r\nMAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\n".encode() + header(ident) + b"\r\n.\r\n"
    hello = bytes.fromhex("16030100c6010000c20303") + bytes(range(32)) + bytes(100)
    for what in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"PUT /x HTTP/1.0\r\n\r\n", b"CONNECT x:25 HTTP/1.1\r\n\r\n", hello):
        with STAGE.client(hello=False) as c:
            c.expect(220)
            quietly(lambda c=c, what=what: c.send(what + smtp))
            codes = c.rest()
            assert len(codes) == 1 and codes[0] // 100 == 5, (what, codes)
    STAGE.none(ident)


def content_behind_refused_recipients():
    """content pipelined behind a DATA that is refused is answered as commands, up to the error limit"""
    ident = STAGE.ident("behind")
    with STAGE.client() as c:
        c.send(f"MAIL FROM:<{A_FROM}>\r\nRCPT TO:<bad>\r\nRCPT TO:<bad@@x>\r\nDATA\r\n".encode() +
               b"".join(b"line %d of the content\r\n" % i for i in range(40)) +
               f"MAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\n".encode() + header(ident) +
               b"\r\nx\r\n.\r\nQUIT\r\n")
        codes = c.rest()
        assert codes[0] == 250 and codes[-1] == 421, codes
        assert all(n // 100 == 5 for n in codes[1:-1]) and len(codes) <= 23, codes
    STAGE.none(ident)


def too_many_commands():
    """commands that achieve nothing, by the hundred thousand: an end, or replies, and no memory"""
    for line in (b"NOOP\r\n", b"RSET\r\n", b"VRFY x\r\n", b"HELP\r\n", b"BDAT 2\r\n\r\n", b"x\r\n", b"\r\n",
                 b"EHLO x\r\n", f"MAIL FROM:<{A_FROM}>\r\nRSET\r\n".encode()):
        for kind, count in (("plain", 100_000), ("patient", 20_000)):
            with Memory(STAGE.relay), STAGE.client(kind) as c:
                sender = quietly(lambda c=c, line=line, count=count: c.send(line * count + b"QUIT\r\n"))
                codes = c.rest()
                assert codes and codes[-1] in (421, 221), (kind, line, codes[-3:])
                assert kind == "plain" or len(codes) >= count, (line, len(codes))
                sender.join(PATIENCE)
    STAGE.settle()


def a_million_recipients():
    """a million recipients: 452 behind the limit, those before it have the message, once each"""
    count = 100_000 if SAN else 1_000_000
    ident = STAGE.ident("million")
    with Memory(STAGE.relay), STAGE.client() as c:
        c.say(f"MAIL FROM:<{A_FROM}>", 250)

        def pour():
            for first in range(0, count, 10000):
                c.send(b"".join(b"RCPT TO:<u%d@there.example>\r\n" % i for i in range(first, first + 10000)))
        sender = quietly(pour)
        text, lines = b"", 0
        taken = refused = 0
        while lines < count:
            data = c.sock.recv(1 << 20)
            assert data, f"the connection ended behind {lines} replies"
            text += data
            whole, _, text = text.rpartition(b"\n")
            lines += whole.count(b"\n") + 1 if whole else 0
            taken += len(re.findall(rb"(?m)^250 ", whole))
            refused += len(re.findall(rb"(?m)^452 4\.5\.3 ", whole))
        sender.join()
        assert (taken, refused) == (1000, count - 1000), (taken, refused)
        c.say("DATA", 354)
        c.send(header(ident) + b"\r\nx\r\n.\r\n")
        c.expect(250)
    STAGE.settle()
    got = [r for m in STAGE.sink.of(ident) for r in m.rcpts]
    assert sorted(got) == sorted(f"u{i}@there.example" for i in range(1000)), len(got)


# ---- STARTTLS --------------------------------------------------------------------------------------

def bytes_behind_starttls():
    """what was pipelined behind STARTTLS is never run: not in clear, not within TLS"""
    ident = STAGE.ident("tls")
    evil = f"EHLO x\r\nMAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\n".encode() + header(ident) + b"\r\n.\r\n"
    for behind in (b"NOOP\r\n", evil, b"EH", b"\0", b"\r\n", b"x" * 100000):
        with STAGE.client() as c:
            quietly(lambda c=c, behind=behind: c.send(b"STARTTLS\r\n" + behind))
            codes = c.rest()
            # Refused, or begun and cut off: no reply to what stood behind.
            assert len(codes) <= 1 and all(n in (220, 421, 501, 503, 554) for n in codes), (behind, codes)
    STAGE.none(ident)


def one_segment_with_the_handshake():
    """clear text glued before the ClientHello: the handshake fails or ends, nothing of it runs"""
    ident = STAGE.ident("tls")
    with STAGE.client() as c:
        c.say("STARTTLS", 220)
        bio_in, bio_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        tls = context.wrap_bio(bio_in, bio_out)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        evil = f"MAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\n".encode() + header(ident) + b"\r\n.\r\n"
        quietly(lambda: c.send(evil + bio_out.read()))
        left = b""
        try:
            while data := c.sock.recv(65536):
                left += data
        except ConnectionError:
            pass
        assert b"250" not in left and b"354" not in left, left
    STAGE.none(ident)


def the_greeting_is_forgotten_by_tls():
    """what was said in clear is forgotten within TLS"""
    with STAGE.client() as c:
        c.say("STARTTLS", 220)
        c.start_tls()
        c.say(f"MAIL FROM:<{A_FROM}>", 503)
        c.say("EHLO x", 250)
        c.say("STARTTLS", 503)
        c.say("QUIT", 221)


def clear_text_behind_the_end_of_tls():
    """close_notify in the middle of content, then clear text: nothing is queued"""
    ident = STAGE.ident("notify")
    with STAGE.client() as c:
        c.say("STARTTLS", 220)
        c.start_tls()
        c.say("EHLO x", 250)
        c.data()
        c.send(header(ident) + b"\r\nbody")
        raw = c.sock
        try:
            raw.settimeout(PATIENCE)
            clear = raw.unwrap()
            clear.sendall(b"X\r\n.\r\n")
            assert clear.recv(100) == b""
        except (OSError, ssl.SSLError):
            pass
    STAGE.none(ident)


# ---- connections that end badly ----------------------------------------------------------------------

def half_closed():
    """who shuts down its sending side hears every reply; a message is queued whole or not at all"""
    whole = [STAGE.ident("half") for _ in range(3)]
    for ident in whole:
        with STAGE.client(hello=False) as c:
            c.send(f"EHLO x\r\nMAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\n".encode() + header(ident) +
                   b"\r\nx\r\n.\r\n")
            c.half_close()
            codes = c.rest()
            assert codes[:6] == [220, 250, 250, 250, 354, 250], codes
    cut = []
    for tail in (b"", b"\r\nhalf a line", b"\r\nx\r\n.", b"\r\nx\r\n.\r"):
        cut.append(STAGE.ident("half"))
        with STAGE.client() as c:
            c.data()
            c.send(header(cut[-1]) + tail)
            c.half_close()
            assert 250 not in c.rest()
    for ident in whole:
        STAGE.only(ident)
    STAGE.none(*cut)


def ends_in_content():
    """a reset or an end in the middle of content, or right before its end: not queued"""
    idents = []
    for how in ("reset", "close"):
        for tail in (b"", b"\r\nbody\r\n", b"\r\nbody\r\n.", b"\r\nbody\r\n.\r", b"\r\n" + b"x" * 300_000):
            for _ in range(3):
                idents.append(STAGE.ident("cut"))
                with STAGE.client() as c:
                    c.data()
                    c.send(header(idents[-1]) + tail)
                    if how == "reset":
                        c.reset()
    STAGE.none(*idents)


def ends_behind_content():
    """a reset or an end right behind the end of content: queued once or not at all; once when it got 250"""
    sure, perhaps = [], []
    for how in ("reset", "close", "hear"):
        for i in range(20):
            ident = STAGE.ident("behind")
            (sure if how == "hear" else perhaps).append(ident)
            with STAGE.client() as c:
                c.data()
                c.send(header(ident) + b"\r\n" + b"x" * (i * 1000) + b"\r\n.\r\n")
                if how == "hear":
                    c.expect(250)
                    c.reset()
                elif how == "reset":
                    c.reset()
    STAGE.settle()
    for ident in sure:
        assert len(STAGE.sink.of(ident)) == 1, ident
    counts = [len(STAGE.sink.of(i)) for i in perhaps]
    assert set(counts) <= {0, 1}, counts
    print(f"# {sum(counts)} of {len(perhaps)} unheard ones were queued")


# ---- slow clients --------------------------------------------------------------------------------------

def slow_clients():
    """every way of being slow ends in 421 or a closed connection, by a limit for each and for the whole"""
    idents = [STAGE.ident("slow") for _ in range(2)]
    results = {}

    def trickle(c, data):
        """One byte now and then, until the connection ends."""
        codes = []
        c.sock.settimeout(0.3)
        end = time.monotonic() + 2 * PATIENCE
        for i in range(1 << 30):
            assert time.monotonic() < end, "never cut off"
            try:
                c.send(data[i % len(data):i % len(data) + 1])
                got = c.reply()
            except TimeoutError:
                continue
            except OSError:
                return codes
            if got is None:
                return codes
            codes.append(got[0])
        return codes

    def silent_greeting(c):
        c.expect(220)
        return c.rest()

    def in_a_command(c):
        c.expect(220)
        c.send(b"EHLO x")
        return c.rest()

    def trickled_command(c):
        c.expect(220)
        return trickle(c, b"x")

    def silent_content(c):
        c.expect(220)
        c.say("EHLO x", 250)
        c.data()
        c.send(header(idents[0]))
        return c.rest()

    def trickled_content(c):
        c.expect(220)
        c.say("EHLO x", 250)
        c.data()
        c.send(header(idents[1]))
        return trickle(c, b"y\r\n")

    def silent_handshake(c):
        c.expect(220)
        c.say("STARTTLS", 220)
        return c.rest()

    def trickled_handshake(c):
        c.expect(220)
        c.say("STARTTLS", 220)
        return trickle(c, b"\x16\x03\x01\x40\x00" + bytes(1000))

    def never_reads(c):
        c.sock.settimeout(1)
        end = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < end:
            try:
                c.sock.send(b"EHLO x\r\n" * 1000)
            except TimeoutError:
                pass  # nobody moves
            except OSError:
                return []  # thrown out
        raise AssertionError("never thrown out")

    def run(function):
        try:
            with STAGE.client("hasty", hello=False) as c:
                results[function.__name__] = function(c)
        except Exception as e:  # told below
            results[function.__name__] = e
    threads = [threading.Thread(target=run, args=(f,)) for f in (
        silent_greeting, in_a_command, trickled_command, silent_content, trickled_content,
        silent_handshake, trickled_handshake, never_reads)]
    for t in threads:
        t.start()
    STAGE.settle()  # beside them
    for t in threads:
        t.join(3 * PATIENCE)
        assert not t.is_alive()
    for name, got in results.items():
        fine = ([], [421], [500, 421]) if "handshake" not in name else ([],)
        assert got in fine, (name, got)
    STAGE.none(*idents)


def slow_clients_beside_good_traffic():
    """a thousand slow clients at every stage do not keep good mail from passing"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    stages = (b"", b"EH", b"EHLO x\r\n", f"EHLO x\r\nMAIL FROM:<{A_FROM}>\r\n".encode(),
              f"EHLO x\r\nMAIL FROM:<{A_FROM}>\r\nRCPT TO:<{A_RCPT}>\r\nDATA\r\nX-Test-Id: slow\r\nSubj".encode(),
              b"EHLO x\r\nSTARTTLS\r\n")
    done = threading.Event()
    held = []

    def drip():
        while not done.wait(1):
            for i, s in enumerate(held):
                if i % len(stages) in (1, 4):
                    try:
                        s.send(b"y")
                    except OSError:
                        pass
    with Memory(STAGE.relay) as memory:
        try:
            for i in range(count):
                s = socket.create_connection(("127.0.0.1", STAGE.relay.port), timeout=PATIENCE)
                s.sendall(stages[i % len(stages)])
                held.append(s)
            threading.Thread(target=drip, daemon=True).start()
            idents = [STAGE.send() for _ in range(100)]
            wait_until(lambda: all(STAGE.sink.of(i) for i in idents), "good mail passes beside slow clients")
            assert {len(STAGE.sink.of(i)) for i in idents} == {1}
            # They are all still there: nobody was thrown out to make room.
            ended = 0
            for i, s in enumerate(held):
                s.settimeout(PATIENCE)
                if i % len(stages) == 0:
                    ended += s.recv(1000)[:3] != b"220"
            assert ended == 0, ended
        finally:
            done.set()
            for s in held:
                s.close()
        print("# held by smtpd: %d KiB for %d" % (
            (memory.most["smtpd-0"] - memory.before["smtpd-0"]) >> 10, count))
    STAGE.none("slow")


def nothing_was_restarted():
    """all of this has ended no program of the relay"""
    assert STAGE.relay.pids() == STAGE.pids
    assert "event=died" not in STAGE.relay.tail(1_000_000)


# ---- descriptors ---------------------------------------------------------------------------------------

def connections_to(servers):
    """TCP connections to them, as the client sees them."""
    ports = {mx.port for mx in servers.values()}
    with open("/proc/net/tcp", encoding="ascii") as f:
        words = [line.split() for line in list(f)[1:]]
    return sum(1 for w in words if w[3] == "01" and int(w[2].split(":")[1], 16) in ports)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def sleeps(pid):
    """Whether the process waits: one that spins is never seen asleep, on however slow a machine."""
    seen = [state_of(pid) for _ in range(60) if not time.sleep(0.03)]
    return seen.count("S") >= len(seen) // 2


def start_poor(relay):
    """Starts it with few descriptors for each program."""
    relay.ctl("start", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW)))
    relay.started = True


def smtpd_without_descriptors():
    """smtpd without descriptors does not spin, keeps its sessions, and recovers by itself"""
    sink = WireSink()
    relay = Relay(start=False, relayhost=f"[127.0.0.1]:{sink.port}")
    held = []
    with relay:
        start_poor(relay)
        pids = relay.pids()
        pid = pids["smtpd-0"]
        with Client(relay.port) as old:
            for _ in range(FEW + 50):
                held.append(socket.create_connection(("127.0.0.1", relay.port), timeout=PATIENCE))
            wait_until(lambda: "event=accept errno" in relay.tail(10000), "it says that it is out of descriptors")
            assert sleeps(pid), "it spins"
            old.data()
            old.send(header("old") + b"\r\nx\r\n.\r\n")
            old.expect(250)
        for s in held:
            s.close()
        relay.send(A_FROM, [A_RCPT], header("new") + b"\r\nx\r\n")
        wait_until(lambda: sink.of("old") and sink.of("new"), "old and new mail arrives")
        assert sink.count == 2
        assert relay.pids() == pids, "a program was restarted"
    sink.close()


def smtp_out_without_descriptors():
    """smtp-out without descriptors does not spin, loses nothing, and delivers when there are some again"""
    servers = {i: FakeMX(replies={"GREETING": SILENCE}) for i in range(FEW // 2 + 20)}
    with Lab(servers, start=start_poor, smtp_helo_timeout="4s") as lab:
        pids = lab.relay.pids()
        pid = pids["smtp-out-0"]
        for i in servers:
            lab.relay.send(A_FROM, [f"x@d{i}.lab"], b"Subject: x\r\n\r\nbody\r\n")
        # Half of them are for the queue files that qmgr hands over.
        wait_until(lambda: connections_to(servers) >= FEW // 2 - 1, "it has all the connections that it may have")
        assert sleeps(pid), "it spins"
        lab.good_mail_passes()
        wait_until(lambda: len(lab.attempts()) == len(servers), "all were tried", 2 * PATIENCE, 0.5)
        assert {e["result"] for e in lab.attempts().values()} == {"deferred"}
        lab.good_mail_passes()
        assert lab.relay.pids() == pids, "a program was restarted"


# ---- servers that mean harm ------------------------------------------------------------------------------

class Endless:
    """A reply without end; how much of it was taken."""

    def __init__(self, first, block):
        self.first, self.block, self.sent = first, block, 0

    def __call__(self, session, line):
        session.write(self.first)
        while not session.mx.stopping.is_set():
            session.write(self.block)
            self.sent += len(self.block)


# What no reply is, or none that ends: the connection is of no use, the mail is deferred.
NONSENSE = {
    "code and hyphen, then the end": [b"553-\r\n", CLOSE],
    "half a line, then the end": [b"553", CLOSE],
    "one digit, then the end": [b"5", CLOSE],
    "one digit": b"5\r\n",
    "two digits": b"25\r\n",
    "two codes in one reply": b"553-a\r\n250 b\r\n",
    "an empty line": b"\r\n",
    "letters": b"ok\r\n",
    "a code out of range": b"999 x\r\n",
    "a code of zeros": b"000 x\r\n",
    "no separator": b"2500\r\n",
    "binary": bytes(range(256)) * 20 + b"\r\n",
    "a line of a megabyte": b"250 " + b"x" * 1_000_000 + b"\r\n",
    "a hundred thousand lines": b"250-x\r\n" * 100_000 + b"250 x\r\n",
    "only NUL": bytes(1000) + b"\r\n",
    "HTTP": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a reset": RESET,
    "the end": CLOSE,
    "silence": SILENCE,
    "an intermediate reply": b"354 go\r\n",
    "one byte now and then": Slowly("250-" + "x" * 2000, 0.05),
}
STAGES = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT")


class Lab:
    """A relay with one domain for each server."""

    def __init__(self, servers, start=Relay.start, **settings):
        self.servers = servers
        limits = {f"smtp_{n}_timeout": "3s" for n in (
            "connect", "helo", "mail", "rcpt", "data_init", "data_xfer", "data_done", "rset", "starttls")}
        self.sink = FakeMX(cert=CERT)
        self.relay = Relay(start=False, **{**limits, "smtp_connection_cache_time_limit": "1s", **settings})
        table = os.path.join(self.relay.etc, "transport")
        with open(table, "w", encoding="ascii") as f:
            f.write(f"good.lab smtp:[127.0.0.1]:{self.sink.port}\n")
            f.writelines(f"d{i}.lab smtp:[127.0.0.1]:{mx.port}\n" for i, mx in enumerate(servers.values()))
        self.relay.set(transport_maps="texthash:" + table)
        start(self.relay)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for mx in (*self.servers.values(), self.sink):
            mx.close()
        self.relay.__exit__(kind, value, trace)

    def attempts(self):
        """The first attempt for each server, by its name."""
        found = {}
        for e in self.relay.events():
            if e["event"] == "attempt" and e["rcpt"].startswith("x@d"):
                found.setdefault(int(e["rcpt"][3:-4]), e)
        return {n: found[i] for i, n in enumerate(self.servers) if i in found}

    def good_mail_passes(self):
        before = self.sink.count
        self.relay.send(A_FROM, ["x@good.lab"], b"Subject: good\r\n\r\nx\r\n")
        wait_until(lambda: self.sink.count == before + 1, "good mail passes beside bad servers")

    def run(self):
        """One message for each; returns the attempts when all have been made."""
        pids = self.relay.pids()
        with Memory(self.relay):
            for i in range(len(self.servers)):
                self.relay.send(A_FROM, [f"x@d{i}.lab"], b"Subject: x\r\n\r\nbody\r\n" + b"y" * 70 + b"\r\n")
            self.good_mail_passes()
            wait_until(lambda: len(self.attempts()) == len(self.servers), "an attempt for each server was made:\n" +
                       self.relay.tail(), 2 * PATIENCE, 0.5)
            self.good_mail_passes()
        assert self.relay.pids() == pids, "a program was restarted"
        return self.attempts()


def nonsense_at(stage):
    servers = {what: FakeMX(replies={stage: reply}) for what, reply in NONSENSE.items()
               if (stage, what) != ("DATA", "an intermediate reply")}
    with Lab(servers) as lab:
        for what, e in lab.run().items():
            assert e["result"] == "deferred" and e["code"] // 100 != 5, (what, e)
            assert len(e["reply"]) <= 2048 and e["next_at_s"] > 0, (what, e)
        assert not any(mx.taken for mx in servers.values()) or stage == "DOT"
        tidy_texts(lab.relay)


def tidy_texts(relay):
    """No control byte of a peer's reaches a log or a terminal."""
    with open(relay.log, "rb") as f:
        texts = f.read()
    texts += relay.ctl("log").stdout.encode() + relay.ctl("queue", "list").stdout.encode()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", texts), re.search(rb".{20}[\x00-\x08\x0b-\x1f\x7f]", texts)


def replies_without_end():
    """replies without end are cut off, whatever they are made of"""
    endless = {}
    for stage in ("GREETING", "EHLO", "MAIL", "DOT"):
        for what, first, block in (("lines", b"", b"250-more\r\n" * 1000), ("one line", b"250 ", b"x" * 10000),
                                   ("no digit", b"", b"\0\xff" * 5000)):
            endless[f"{stage}, {what}"] = (stage, Endless(first, block))
    servers = {n: FakeMX(replies={stage: e}) for n, (stage, e) in endless.items()}
    with Lab(servers) as lab:
        for what, e in lab.run().items():
            assert e["result"] == "deferred", (what, e)
        for what, (_, e) in endless.items():
            # What the kernels on both sides hold, and little more.
            assert e.sent < (32 << 20), f"{what}: {e.sent} bytes were taken"


def odd_but_legal_replies():
    """odd replies that are replies all the same count as what they say, and are shown harmlessly"""
    servers = {
        "no text": (FakeMX(replies={"RCPT": b"553-a\r\n553\r\n"}), "failed"),
        "code alone": (FakeMX(replies={"RCPT": b"250\r\n"}), "delivered"),
        "controls": (FakeMX(replies={"RCPT": b"550 5.1.1 \0\x1b[2J\x07 \x9b31m <img src=x>\r\n"}), "failed"),
        "controls in a delay": (FakeMX(replies={"RCPT": b"450 4.2.1 \x1b]0;owned\x07\0\r\n"}), "deferred"),
        "controls in success": (FakeMX(replies={"DOT": b"250 \0\x1b[2J\r\n"}), "delivered"),
        "8-bit": (FakeMX(replies={"RCPT": b"550 5.1.1 \xff\xfe\xe9\r\n"}), "failed"),
        "a status that lies": (FakeMX(replies={"RCPT": b"450 5.1.1 no\r\n"}), "deferred"),
        "a status that is none": (FakeMX(replies={"RCPT": b"550 5.99999999999.1 no\r\n"}), "failed"),
        "two replies at once": (FakeMX(replies={"RCPT": b"250 ok\r\n250 ok\r\n"}), None),
        "ten greetings": (FakeMX(replies={"GREETING": b"220 x\r\n" * 10}), None),
    }
    with Lab({n: mx for n, (mx, _) in servers.items()}, bounce_queue_lifetime="0s") as lab:
        got = lab.run()
        for what, (mx, wanted) in servers.items():
            if wanted is not None:
                assert got[what]["result"] == wanted, (what, got[what])
            else:
                # Replies that nobody asked for must not be taken for those to come.
                assert got[what]["result"] != "delivered" or len(mx.taken) == 1, (what, got[what])
        assert got["a status that lies"]["status"].startswith("4."), got
        tidy_texts(lab.relay)


def injected_behind_starttls():
    """clear text behind the server's reply to STARTTLS is never taken for a reply within TLS"""
    injected = b"220 go\r\n250-evil.example\r\n250-SIZE 1\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"
    servers = {what: FakeMX(cert=CERT, replies={"STARTTLS": data}) for what, data in (
        ("a dialogue", injected), ("one reply", b"220 go\r\n250 INJECTED\r\n"), ("one byte", b"220 go\r\n2"))}
    with Lab(servers, smtp_tls_security_level="encrypt") as lab:
        for what, e in lab.run().items():
            assert e["result"] == "deferred", (what, e)
        assert not any(mx.transactions for mx in servers.values())


# ---- all of them -----------------------------------------------------------------------------------------

def with_stage(cases):
    for sequence in SEQUENCES:
        cases.run(smuggling_is_normalized, sequence, name=(
            f"V01 V02 {name_of(sequence)} ends no message: one, or none, leaves, in sound lines"))
    for sequence in SEQUENCES:
        cases.run(smuggling_is_refused, sequence, name=(
            f"V01 {name_of(sequence)} is refused where lone line ends are, and nothing leaves"))
    for case in (command_lines, bad_line_ends_in_commands, endless_lines_in_commands, nul_octets,
                 long_lines_in_content, sizes, foreign_protocols, content_behind_refused_recipients,
                 too_many_commands, a_million_recipients, bytes_behind_starttls,
                 one_segment_with_the_handshake, the_greeting_is_forgotten_by_tls,
                 clear_text_behind_the_end_of_tls, half_closed, ends_in_content, ends_behind_content,
                 slow_clients, slow_clients_beside_good_traffic, nothing_was_restarted):
        failed = cases.failed
        cases.run(case)
        if cases.failed != failed:
            print("# " + STAGE.relay.tail(40).replace("\n", "\n# "), flush=True)


def main():
    global STAGE, CERT
    cases = Cases()
    certs = Certs()
    CERT = certs.leaf("mx", san="DNS:mx.lab")
    STAGE = Stage()
    try:
        with_stage(cases)
    finally:
        STAGE.close()
    for stage in STAGES:
        cases.run(nonsense_at, stage, name=f"V24 nonsense in place of a reply ({stage}): deferred, and other mail flows")
    for case in (smtpd_without_descriptors, smtp_out_without_descriptors, replies_without_end,
                 odd_but_legal_replies, injected_behind_starttls):
        cases.run(case)
    certs.close()
    cases.end()


if __name__ == "__main__":
    main()
