#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""Signatures as cleanup makes them, judged by two verifiers that are not ours: python3-dkim, and
opendkim-testmsg with its keys from a name server of its own (that part needs root)."""

import base64
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))
SIGN = os.path.join(os.environ.get("EKIDEN_BUILD", os.path.join(ROOT, "build")),
                    "tests/system/dkim_sign")
CANONICALIZATIONS = ["relaxed/simple", "relaxed/relaxed", "simple/simple", "simple/relaxed"]

try:
    import dkim
except ImportError:
    # Debian's package is for Debian's Python, which need not be the first in the path.
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

from fakedns import FakeDns  # noqa: E402
from relay import Relay, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

FROM = b"From: Ann Other <ann@news.example.com>\r\n"
PLAIN = FROM + (b"To: someone@example.net\r\nSubject: plain\r\n"
                b"Date: Thu, 26 Nov 2026 21:19:42 +0000\r\nMessage-ID: <1@example.com>\r\n")

HEADERS = {
    "plain": PLAIN,
    "from only": FROM,
    "folded at once after the name": b"Subject:\r\n folded\r\nFrom:\r\n\tann@example.com\r\nTo:\r\n x@y.example\r\n",
    "a word of 10,000 bytes": FROM + b"Subject: " + b"0123456789" * 1000 + b"\r\n",
    "a field of 100 KB": FROM + b"References:" + b"\r\n <0123456789abcdef@example.com>" * 1900 + b"\r\n"
                         + b"Subject: " + b"x" * 40000 + b"\r\n",
    "a From of 60 KB": b"From:" + b"\r\n (a comment of quite some length, sixty bytes and more, really)" * 900 + b"\r\n ann@example.com\r\n",
    "8-bit": FROM + "Subject: 駅伝 été\r\nTo: \"日本\" <b@example.net>\r\n".encode() + b"Cc: \xff\xfe <c@d>\r\n",
    "empty values": FROM + b"Subject:\r\nTo: \r\nCc:\t\r\n",
    "every field twice": PLAIN + b"Subject: again\r\nTo: 2\r\nsubject: third\r\nDate: x\r\nMessage-ID: <2@x>\r\n",
    "odd case and blanks": b"fRoM:ann@example.com\r\nSUBJECT:   many   \t blanks \t \r\n  and more\t\r\n",
    "a blank before a colon": b"From : ann@example.com\r\nSubject : x\r\n",
    "tabs before a colon": b"From\t: ann@example.com\r\nSubject \t :x\r\n",
    "blank continuation lines": FROM + b"Subject: a\r\n \r\n\t\r\nTo: b\r\n",
    "other signatures": b"DKIM-Signature: v=1; garbage\r\nARC-Seal: i=1\r\n" + PLAIN,
    "Bcc and Return-Path": b"Return-Path: <x@y>\r\n" + PLAIN + b"Bcc: hidden@example.net,\r\n also@example.net\r\n",
    "a list's mail": PLAIN + b"List-Id: <l.example.com>\r\nList-Unsubscribe: <https://example.com/u>\r\n"
                     b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nMIME-Version: 1.0\r\n"
                     b"Content-Type: text/plain;\r\n charset=utf-8\r\nReply-To: help@example.com\r\n",
    "a mailbox file's line": b"From ann@example.com Thu Jan  1 00:00:00 1970\r\n" + PLAIN,
}
BODIES = {
    "none": b"",
    "one empty line": b"\r\n",
    "empty lines": b"\r\n" * 5,
    "text": b"Hello,\r\n\r\nworld.\r\n",
    "empty lines at the end": b"Hello\r\n\r\n\r\n\r\n",
    "blanks": b" \t\r\n  a  \t b \r\n\t\r\n \r\n",
    "dots": b".\r\n..\r\n.hidden\r\nin.side\r\n\r\n.\r\n",
    "8-bit": b"\xe3\x81\x82 \xff\x80\r\n\x01\x7f\r\n",
    "long lines": b"x" * 998 + b"\r\n" + b"y" * 70000 + b"\r\n",
}

count = 0


def case(name, why=None):
    global count
    count += 1
    if why is not None:
        print(f"not ok {count} {name}: {why}")
        case.failed = True
    else:
        print(f"ok {count} {name}")


case.failed = False


class Keys:
    def __init__(self, folder):
        self.paths = {"rs": os.path.join(folder, "rsa.pem"), "es": os.path.join(folder, "ed.pem")}
        for kind, options in (("rs", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
                              ("es", ["-algorithm", "ed25519"])):
            subprocess.run(["openssl", "genpkey", *options, "-out", self.paths[kind]], check=True,
                           stderr=subprocess.DEVNULL)

    def public(self, kind):
        done = subprocess.run(["openssl", "pkey", "-in", self.paths[kind], "-pubout", "-outform", "DER"],
                              check=True, stdout=subprocess.PIPE)
        return base64.b64encode(done.stdout if kind == "rs" else done.stdout[-32:]).decode()

    def record(self, kind):
        return f"v=DKIM1; h=sha256; k={'rsa' if kind == 'rs' else 'ed25519'}; p={self.public(kind)}"

    def words(self, kinds=("rs", "es")):
        return " ".join(f"{k}:{self.paths[k]}" for k in kinds)


def sign(message, words, canonicalization, piece=61440):
    done = subprocess.run([SIGN, "-c", canonicalization, "-p", str(piece), "example.com", words],
                          input=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise AssertionError(done.stderr.decode().strip() or f"status {done.returncode}")
    return done.stdout


def verify(message, records):
    """Which signatures of ours hold, by python3-dkim: {selector: bool}."""
    def look_up(name, timeout=5):
        name = name.decode() if isinstance(name, bytes) else name
        return records[name.split(".")[0]].encode()

    judge = dkim.DKIM(message, minkey=1024)
    out = {}
    ours = [h for h in judge.headers if h[0].lower() == b"dkim-signature"]
    for i, (_, value) in enumerate(ours):
        if b"garbage" in value:
            continue
        try:
            held = judge.verify(idx=i, dnsfunc=look_up)
        except dkim.DKIMException as e:
            held = repr(e)
        out["es" if b"ed25519" in value else "rs"] = held
    return out


def check_both_hold(name, message, keys, records, canonicalization, piece=61440):
    try:
        held = verify(sign(message, keys.words(), canonicalization, piece), records)
    except AssertionError as e:
        case(name, e)
        return
    case(name, None if held == {"rs": True, "es": True} else held)


def test_every_shape(keys, records):
    for canonicalization in CANONICALIZATIONS:
        for name, header in HEADERS.items():
            if name in ("a blank before a colon", "tabs before a colon"):
                continue  # python3-dkim takes neither for a header
            check_both_hold(f"{canonicalization}, header: {name}", header + b"\r\nHello\r\n", keys, records,
                            canonicalization)
        for name, body in BODIES.items():
            check_both_hold(f"{canonicalization}, body: {name}", PLAIN + b"\r\n" + body, keys, records,
                            canonicalization)
        check_both_hold(f"{canonicalization}, no empty line", PLAIN, keys, records, canonicalization)
        check_both_hold(f"{canonicalization}, a header that runs into text", PLAIN + b"no field\r\n\r\nx\r\n",
                        keys, records, canonicalization)


def test_ten_megabytes(keys, records):
    line = b".A line of some eighty bytes, as they are found in large bodies of mail, often.\r\n"
    body = line * (10_000_000 // len(line)) + b"\r\n" * 3
    for canonicalization in CANONICALIZATIONS:
        check_both_hold(f"{canonicalization}, 10 MB", PLAIN + b"\r\n" + body, keys, records, canonicalization)


def test_pieces(keys, records):
    body = b".a\r\n..\r\nb\r\n\r\n.\r\n \t\r\n\r\n"
    for canonicalization in CANONICALIZATIONS:
        for piece in (1, 2, 3, 5, 7):
            check_both_hold(f"{canonicalization}, pieces of {piece}", PLAIN + b"\r\n" + body, keys, records,
                            canonicalization, piece)


def test_what_is_left_alone(keys):
    """Everything but what goes out and what is added is byte for byte as it came."""
    for name, header in HEADERS.items():
        message = header + b"\r\n" + BODIES["dots"]
        out = sign(message, keys.words(), "relaxed/simple")
        rest = out[out.index(b"Received: from client.example"):]
        want = message
        if name == "Bcc and Return-Path":
            want = PLAIN + b"\r\n" + BODIES["dots"]
        elif name == "a mailbox file's line":
            want = want[want.index(b"\r\n") + 2:]
        case(f"left alone: {name}", None if rest.endswith(want) else "changed")


def test_what_is_not_signed(keys):
    out = sign(b"From: x@example.org\r\n\r\nhi\r\n", keys.words(), "relaxed/simple")
    case("another's domain is not signed", "signed" if b"DKIM-Signature" in out else None)
    out = sign(b"Subject: no From\r\n\r\nhi\r\n", keys.words(), "relaxed/simple")
    case("no From is not signed", "signed" if b"DKIM-Signature" in out else None)
    try:
        sign(HEADERS["tabs before a colon"] + b"\r\nhi\r\n", keys.words(), "simple/simple")
        case("tabs before a colon cannot be signed simple", "was signed")
    except AssertionError:
        case("tabs before a colon cannot be signed simple")


# ---- through the whole relay ----

def send_raw(relay, message):
    """By SMTP, byte for byte: smtplib would mend line ends and dots itself, the same way."""
    with relay.smtp() as client:
        client.ehlo("client.example.com")
        for command in ("MAIL FROM:<ann@example.com> BODY=8BITMIME", "RCPT TO:<someone@example.net>"):
            code, text = client.docmd(command)
            assert code == 250, (code, text)
        code, text = client.docmd("DATA")
        assert code == 354, (code, text)
        client.sock.sendall(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        code, text = client.getreply()
        assert code == 250, (code, text)


def test_the_whole_relay(keys, records):
    with Sink() as sink, Relay(start=False, relayhost=f"[127.0.0.1]:{sink.port}") as relay:
        # Under the relay's own folder, which its programs need not be able to read: the keys travel.
        table = os.path.join(relay.etc, "dkim_keys")
        with open(table, "w", encoding="ascii") as f:
            f.write("example.com " + keys.words() + "\n")
        for name, canonicalization in enumerate(CANONICALIZATIONS):
            relay.set(dkim_keys="texthash:" + table, dkim_canonicalization=canonicalization)
            if name == 0:
                relay.start()
            else:
                relay.reload()
            bodies = {**BODIES, "1 MB": b".A line of text.\r\n" * 60_000}
            for shape, body in bodies.items():
                before = sink.count
                send_raw(relay, PLAIN + b"\r\n" + body)
                wait_until(lambda: sink.count > before, "the message arrives")
                got = sink.messages[-1].content
                held = verify(got, records)
                fine = held == {"rs": True, "es": True} and got.endswith(PLAIN + b"\r\n" + body)
                case(f"through the relay, {canonicalization}, body: {shape}", None if fine else held)


# ---- opendkim-testmsg, in a network of its own with a name server on port 53 ----

def raw_txt(text):
    raw = text.encode()
    return b"".join(bytes([len(raw[i:i + 255])]) + raw[i:i + 255] for i in range(0, len(raw), 255))


def judge_inside(folder):
    """Runs in its own network and mount namespace: prints the names of the messages that hold."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resolver = os.path.join(folder, "resolv.conf")
    with open(resolver, "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", resolver, os.path.realpath("/etc/resolv.conf")], check=True)
    zone = {}
    for kind in ("rs", "es"):
        with open(os.path.join(folder, kind + ".txt"), encoding="ascii") as f:
            zone[f"{kind}._domainkey.example.com"] = {"TXT": [raw_txt(f.read())]}
    with FakeDns(zone, port=53):
        for name in sorted(n for n in os.listdir(folder) if n.endswith(".eml")):
            with open(os.path.join(folder, name), "rb") as f:
                done = subprocess.run(["opendkim-testmsg"], stdin=f, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=60)
            print(f"{name} {done.returncode} {done.stdout.decode('latin-1').strip()}", flush=True)


def test_opendkim(keys, folder):
    if os.geteuid() != 0:
        print("ok opendkim-testmsg # SKIP needs root")
        return
    if subprocess.run(["unshare", "--net", "--mount", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        print("ok opendkim-testmsg # SKIP no network and mounts of its own (in a chroot?)")
        return
    for kind in ("rs", "es"):
        with open(os.path.join(folder, kind + ".txt"), "w", encoding="ascii") as f:
            f.write(keys.record(kind))
    shapes = {f"header {n}": h + b"\r\nHello\r\n" for n, h in HEADERS.items()
              # Its reader takes no tabs there, no second Subject, no field beyond its buffer, and other
              # signatures for ours.
              if n not in ("tabs before a colon", "every field twice", "other signatures", "a field of 100 KB", "a From of 60 KB",
                           "a word of 10,000 bytes")}
    shapes.update({f"body {n}": PLAIN + b"\r\n" + b for n, b in BODIES.items()})
    shapes["10 MB"] = PLAIN + b"\r\n" + b"A line of text.\r\n" * 600_000
    names = {}
    for canonicalization in CANONICALIZATIONS:
        for shape, message in shapes.items():
            for kind in ("rs", "es"):
                file = f"{len(names):04}.eml"
                names[file] = f"opendkim-testmsg, {canonicalization}, {kind}, {shape}"
                with open(os.path.join(folder, file), "wb") as f:
                    f.write(sign(message, keys.words([kind]), canonicalization))
    done = subprocess.run(["unshare", "--net", "--mount", "--propagation", "private", sys.executable,
                           os.path.realpath(__file__), "--inside", folder], stdout=subprocess.PIPE)
    said = {}
    for line in done.stdout.decode().splitlines():
        file, status, *text = line.split(" ", 2)
        if file in names:
            said[file] = (status, " ".join(text))
    for file, name in names.items():
        status, text = said.get(file, ("none", "nothing was said"))
        case(name, None if status == "0" else f"{status} {text}")


def main():
    with tempfile.TemporaryDirectory(prefix="ekiden-dkim.") as folder:
        keys = Keys(folder)
        records = {kind: keys.record(kind) for kind in ("rs", "es")}
        test_every_shape(keys, records)
        test_ten_megabytes(keys, records)
        test_pieces(keys, records)
        test_what_is_left_alone(keys)
        test_what_is_not_signed(keys)
        test_the_whole_relay(keys, records)
        test_opendkim(keys, folder)
    return 1 if case.failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        judge_inside(sys.argv[2])
        sys.exit(0)
    sys.exit(main())
