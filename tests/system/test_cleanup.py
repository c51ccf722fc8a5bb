#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""cleanup alone: the test is its master, its smtpd, its bounce and its qmgr."""

import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/support"))

from child import NOBODY, Child, Refused  # noqa: E402
from ipc import C, VERSION, Closed, encode  # noqa: E402
import test_dkim  # noqa: E402

PLAIN = (b"From: ann@news.example.com\r\nTo: x@example.net\r\nDate: Thu, 26 Nov 2026 21:19:42 +0000\r\n"
         b"Message-ID: <1@example.com>\r\nSubject: plain\r\n\r\n")


class Rig:
    """A cleanup with a queue of its own."""

    def __init__(self, **params):
        self.dir = tempfile.mkdtemp(prefix="ekiden-cleanup.")
        self.files = {}
        os.chmod(self.dir, 0o755)
        for name in ("spool/queue", "spool/journal", "lib/suppress"):
            os.makedirs(os.path.join(self.dir, name), 0o770)
        for name in ("spool/queue", "spool/journal", "lib/suppress"):
            if os.geteuid() == 0:
                os.chown(os.path.join(self.dir, name), NOBODY, NOBODY)
        self.queue = os.path.join(self.dir, "spool/queue")
        self.params = {"myhostname": "relay.example", "mail_name": "Ekiden",
                       "queue_directory": os.path.join(self.dir, "spool"),
                       "data_directory": os.path.join(self.dir, "lib"), **params}
        self.child = None
        self.next_tx = 1

    def start(self):
        self.child = Child("cleanup", "ROLE_CLEANUP", self.params, self.files)
        return self.child

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        if exc[0] is not None and self.child:
            print("\n".join(self.child.lines[-20:]), file=sys.stderr)
        if self.child:
            self.child.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def smtpd(self, index=0):
        channel = self.child.peer("ROLE_SMTPD", index)
        state = channel.expect("store_state")
        assert state["state"] == C["STORE_OK"], state
        return channel

    def begin(self, channel, rcpts=("x@example.net",), **more):
        tx = self.next_tx
        self.next_tx += 1
        channel.send("tx_begin", tx=tx, **{"rcpt_count": len(rcpts), "sender": "ann@example.com",
                                          "client_name": "c.example", "client_addr": "192.0.2.1",
                                          "helo": "client.example", "protocol": "ESMTP", **more})
        for rcpt in rcpts:
            channel.send("tx_rcpt", tx=tx, address=rcpt)
        return tx

    def submit(self, channel, content, piece=61440, **more):
        tx = self.begin(channel, **more)
        for at in range(0, len(content), piece):
            channel.send("tx_content", tx=tx, bytes=content[at:at + piece])
        channel.send("tx_end", tx=tx)
        return tx

    def fate(self, channel, tx, timeout=30):
        done = channel.expect("tx_done", timeout)
        assert done["tx"] == tx, (done, tx)
        return done["smtp_code"], done["text"].decode()

    def stored(self, enqueue):
        """What would go over the wire."""
        with open(os.path.join(self.queue, f"{enqueue['segment']:016x}.seg"), "rb") as f:
            f.seek(enqueue["head_offset"])
            head = f.read(enqueue["head_bytes"])
            f.seek(enqueue["content_offset"])
            content = f.read(enqueue["content_bytes"])
        assert len(head) == enqueue["head_bytes"] and len(content) == enqueue["content_bytes"]
        return head, content


def stuff(message):
    return b"".join(b"." + line if line.startswith(b".") else line
                    for line in message.splitlines(keepends=True))


def unstuff(wire):
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def expect_closed(channel):
    try:
        while True:
            channel.receive(20)
    except Closed:
        pass


# ---- cases ----

def test_a_message_is_made_whole_stored_and_told():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        content = stuff(b"From: ann@example.com\r\nBcc: hidden@example.net\r\nX-Odd :  y\r\n\r\n.dot\r\n..\r\n\xff\r\n")
        tx = rig.submit(smtpd, content, tls="TLSv1.3 TLS_AES_256_GCM_SHA384", envid="E1", ret=C["RET_HDRS"])
        code, text = rig.fate(smtpd, tx)
        assert code == 250 and len(text) == 12, (code, text)
        opened = qmgr.expect("segment_open")
        told = qmgr.expect("enqueue")
        assert told["segment"] == opened["segment"] and told["queue_id"].decode() == text
        assert told["sender"] == b"ann@example.com" and told["envid"] == b"E1" and told["ret"] == C["RET_HDRS"]
        assert told["flags"] & C["TX_8BIT"] and told["rcpt_count"] == told["rcpts_follow"] == 1
        assert qmgr.expect("enqueue_rcpt")["address"] == b"x@example.net"
        head, stored = rig.stored(told)
        assert head.startswith(b"Received: from client.example (c.example [192.0.2.1])\r\n\tby relay.example (Ekiden) "
                               b"with ESMTP id " + text.encode() + b"\r\n\t(TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
                               b"\tfor <x@example.net>;\r\n\t"), head
        assert b"\r\nMessage-ID: <2" in head and b"." + text.encode() + b"@relay.example>\r\nDate: " in head
        assert stored == content.replace(b"Bcc: hidden@example.net\r\n", b""), stored
        name = os.path.join(rig.queue, f"{told['segment']:016x}.seg")
        assert stat.S_IMODE(os.stat(name).st_mode) & 0o007 == 0
        # The next one goes to the same segment.
        rig.fate(smtpd, rig.submit(smtpd, PLAIN + b"2\r\n"))
        told = qmgr.expect("enqueue")
        assert told["segment"] == opened["segment"] and not told["flags"] & C["TX_8BIT"]
        assert rig.stored(told)[1] == PLAIN + b"2\r\n"
        status = rig.child.status()
        assert status["accepted"] == 2 and status["store"] == "ok" and status["transactions"] == 0, status


def test_what_is_ready_together_becomes_one_group():
    with Rig() as rig:
        smtpd = rig.smtpd()
        txs = [rig.submit(smtpd, PLAIN + b"%d\r\n" % i) for i in range(300)]
        ids = set()
        for tx in txs:
            code, text = rig.fate(smtpd, tx)
            assert code == 250
            ids.add(text)
        status = rig.child.status()
        assert len(ids) == 300 and status["accepted"] == 300 and status["groups"] < 300, status


def test_a_single_message_waits_for_nobody():
    with Rig() as rig:
        smtpd, times = rig.smtpd(), []
        for i in range(40):
            begin = time.monotonic()
            assert rig.fate(smtpd, rig.submit(smtpd, PLAIN + b"x\r\n" * 1000))[0] == 250
            times.append(time.monotonic() - begin)
        times.sort()
        print(f"# a single message: median {times[20] * 1000:.2f} ms")
        # No timer of any length stands in the way; the rest is the disk's, and the machine's.
        assert times[20] < 0.1, times


def test_transactions_may_be_interleaved():
    with Rig() as rig:
        qmgr, smtpd, other = rig.child.peer("ROLE_QMGR"), rig.smtpd(0), rig.smtpd(1)
        a, b, c = rig.begin(smtpd), rig.begin(smtpd), rig.begin(other)
        message = PLAIN + b"a line\r\n" * 3
        for i in range(0, len(message), 7):
            for channel, tx in ((smtpd, a), (other, c), (smtpd, b)):
                channel.send("tx_content", tx=tx, bytes=message[i:i + 7])
        smtpd.send("tx_abort", tx=b)
        other.send("tx_end", tx=c)
        assert rig.fate(other, c)[0] == 250
        smtpd.send("tx_end", tx=a)
        assert rig.fate(smtpd, a)[0] == 250
        qmgr.expect("segment_open")
        for _ in range(2):
            assert rig.stored(qmgr.expect("enqueue"))[1] == message
            qmgr.expect("enqueue_rcpt")
        assert rig.child.status()["transactions"] == 0


def test_what_is_not_wire_form_ends_the_channel():
    bad = [b"a\nb\r\n", b"a\rb\r\n", b".\r\n", b".x\r\n", b"a\r\n.\r\nMAIL FROM:<>\r\n", b"a\r\r\n", b"\n.\n"]
    with Rig() as rig:
        good = rig.smtpd(1)
        waits = rig.begin(good)
        for content in bad + [b"no end", b"ends in CR\r"]:
            smtpd = rig.smtpd(0)
            try:
                rig.submit(smtpd, PLAIN + content)
            except BrokenPipeError:
                pass
            expect_closed(smtpd)
        good.send("tx_content", tx=waits, bytes=PLAIN)
        good.send("tx_end", tx=waits)
        assert rig.fate(good, waits)[0] == 250
        assert rig.child.status()["accepted"] == 1


def test_the_order_of_messages_is_enforced():
    def content_first(rig, c):
        tx = rig.begin(c, rcpt_count=2)
        c.send("tx_content", tx=tx, bytes=PLAIN)

    def too_many_rcpts(rig, c):
        c.send("tx_rcpt", tx=rig.begin(c), address="y@example.net")

    def end_without_rcpts(rig, c):
        c.send("tx_end", tx=rig.begin(c, rcpts=(), rcpt_count=1))

    def no_rcpts(rig, c):
        rig.begin(c, rcpts=())

    def begin_twice(rig, c):
        tx = rig.begin(c)
        rig.next_tx = tx
        rig.begin(c)

    def a_notice(rig, c):
        rig.begin(c, flags=C["TX_DSN"])

    def a_line_end_in_an_address(rig, c):
        rig.begin(c, rcpts=("x@example.net\r\nDATA",))

    def a_control_in_helo(rig, c):
        rig.begin(c, helo="a\0b")

    def hello_twice(rig, c):
        c.send("hello", role=C["ROLE_SMTPD"], index=0)

    def anothers_order(rig, c):
        c.send("segment_rotate", segment=1)

    def nonsense(rig, c):
        c.sock.sendall(b"\0\0\0\1\0\x14\1\0x")

    with Rig() as rig:
        for act in (content_first, too_many_rcpts, end_without_rcpts, no_rcpts, begin_twice, a_notice,
                    a_line_end_in_an_address, a_control_in_helo, hello_twice, anothers_order, nonsense):
            smtpd = rig.smtpd()
            try:
                act(rig, smtpd)
            except BrokenPipeError:
                pass
            expect_closed(smtpd)
        bounce = rig.child.peer("ROLE_BOUNCE")
        tx = rig.submit(bounce, PLAIN, flags=C["TX_DSN"], sender="", client_addr="", helo="")
        assert rig.fate(bounce, tx)[0] == 250
        # What belongs to no transaction is the rest of one that was refused; it harms nobody.
        smtpd = rig.smtpd()
        for name in ("tx_content", "tx_end", "tx_abort", "tx_rcpt"):
            smtpd.send(name, tx=999999)
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250


def test_refusals_come_early_and_spare_the_others():
    received = b"Received: x\r\n"
    cases = [
        (554, "5.6.0", b"Subject: a\0b\r\n\r\nhi\r\n"),
        (554, "5.6.0", PLAIN + b"a\0b\r\n"),
        (554, "5.4.6", received * 51 + PLAIN),
        (554, "5.6.0", b"X: y\r\n" * 2001 + PLAIN),
        (554, "5.6.0", b"X: " + b"y" * 140000 + b"\r\n" + PLAIN),
        (554, "5.6.0", b"X" * 300000 + b"\r\n" + PLAIN),
        (552, "5.3.4", PLAIN + b"x" * 998 + b"\r\n" * 500000),
    ]
    with Rig(message_size_limit="1000000") as rig:
        smtpd = rig.smtpd()
        for code, status, content in cases:
            got = rig.fate(smtpd, rig.submit(smtpd, content))
            assert got[0] == code and got[1].startswith(status + " "), (got, content[:20])
        got = rig.fate(smtpd, rig.submit(smtpd, received * 50 + PLAIN))
        assert got[0] == 250, got
        # Before its end, and the rest is ignored.
        tx = rig.begin(smtpd)
        smtpd.send("tx_content", tx=tx, bytes=b"a\0b\r\n")
        assert rig.fate(smtpd, tx)[0] == 554
        smtpd.send("tx_content", tx=tx, bytes=b"x\r\n")
        smtpd.send("tx_end", tx=tx)
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        # Stuffing does not count.
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN + b"..\r\n" * 300000))[0] == 250
        status = rig.child.status()
        assert status["refused"] == len(cases) + 1 and status["held_bytes"] == 0, status


def test_odd_messages_get_a_header():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        for content, stored in ((b"", b"\r\n"), (b"\r\n", b"\r\n"), (b"Hello there\r\n", b"\r\nHello there\r\n"),
                                (b"Subject: x\r\n", b"Subject: x\r\n\r\n"),
                                (b"To: x\r\nno field\r\n", b"To: x\r\n\r\nno field\r\n")):
            assert rig.fate(smtpd, rig.submit(smtpd, content))[0] == 250
            frame = qmgr.receive()
            while frame[0] != "enqueue":
                frame = qmgr.receive()
            head, got = rig.stored(frame[1])
            assert got == stored, got
            assert b"\r\nMessage-ID: <" in head and b"\r\nDate: " in head


def test_large_messages_get_a_segment_of_their_own():
    with Rig(message_size_limit="30000000") as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        body = stuff(b"".join(b".%d a line of text\r\n" % i for i in range(800000)))
        big = rig.begin(smtpd)
        content = b"Bcc: y@example.net\r\n" + PLAIN + body
        half = len(content) // 2
        for at in range(0, half, 61440):
            smtpd.send("tx_content", tx=big, bytes=content[at:min(at + 61440, half)])
        # Others are not held up meanwhile.
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN + b"small\r\n"))[0] == 250
        for at in range(half, len(content), 61440):
            smtpd.send("tx_content", tx=big, bytes=content[at:at + 61440])
        assert rig.child.status()["held_bytes"] < 1 << 20
        smtpd.send("tx_end", tx=big)
        assert rig.fate(smtpd, big, 60)[0] == 250
        told = []
        while len(told) < 2:
            name, values, _ = qmgr.receive()
            if name == "enqueue":
                told.append(values)
        assert told[0]["segment"] != told[1]["segment"]
        head, stored = rig.stored(told[1])
        assert stored == PLAIN + body
        assert head.startswith(b"Received: ")
        # Its segment is sealed when the writer is used again.
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        sealed = None
        while sealed is None:
            name, values, _ = qmgr.receive()
            if name == "segment_sealed":
                sealed = values["segment"]
        assert sealed == told[1]["segment"]
        # What makes it an 8-bit message may come last.
        assert not told[1]["flags"] & C["TX_8BIT"]
        big = rig.submit(smtpd, PLAIN + b"x" * 998 + b"\r\n" * 400000 + b"\xff\r\n")
        assert rig.fate(smtpd, big, 60)[0] == 250
        while True:
            name, values, _ = qmgr.receive()
            if name == "enqueue" and values["content_bytes"] > 400000:
                assert values["flags"] & C["TX_8BIT"]
                break


def test_large_messages_that_are_given_up_leave_nothing():
    with Rig(message_size_limit="30000000") as rig:
        smtpd = rig.smtpd()
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        before = set(os.listdir(rig.queue))
        for how in ("abort", "close"):
            tx = rig.begin(smtpd)
            for _ in range(20):
                smtpd.send("tx_content", tx=tx, bytes=PLAIN * 300)
            assert wait(lambda: rig.child.status()["held_bytes"] < 400000)
            assert wait(lambda: set(os.listdir(rig.queue)) != before)
            if how == "abort":
                smtpd.send("tx_abort", tx=tx)
            else:
                smtpd.close()
            assert wait(lambda: rig.child.status()["transactions"] == 0)
            assert set(os.listdir(rig.queue)) == before, os.listdir(rig.queue)


def wait(what, seconds=20):
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def frame(name, **values):
    number, body = encode(name, **values)
    return struct.pack(">IHBB", len(body), number, VERSION, 0) + body


def test_nobody_hears_of_what_was_given_up_after_its_end():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        tx = rig.begin(smtpd)
        # In one piece, so that both are read before the commit.
        smtpd.sock.sendall(frame("tx_content", tx=tx, bytes=PLAIN) + frame("tx_end", tx=tx) +
                           frame("tx_abort", tx=tx))
        qmgr.expect("segment_open")
        qmgr.expect("enqueue")
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        assert rig.child.status()["transactions"] == 0
        # The same when its sender dies; and a drain waits for it.
        tx = rig.begin(smtpd)
        smtpd.sock.sendall(frame("tx_content", tx=tx, bytes=PLAIN) + frame("tx_end", tx=tx))
        smtpd.close()
        assert wait(lambda: rig.child.status()["accepted"] == 3)
        rig.child.control.send("drain", within_ms=20000)
        assert rig.child.process.wait(15) == 0


def test_recipients_come_along_up_to_64():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        qmgr_open = False
        for n in (2, 64, 65, 5000):
            rcpts = [f"user{i}@example.net" for i in range(n)]
            assert rig.fate(smtpd, rig.submit(smtpd, PLAIN, rcpts=rcpts))[0] == 250
            if not qmgr_open:
                qmgr.expect("segment_open")
                qmgr_open = True
            told = qmgr.expect("enqueue")
            assert told["rcpt_count"] == n and told["rcpts_follow"] == (n if n <= 64 else 0)
            for i in range(told["rcpts_follow"]):
                assert qmgr.expect("enqueue_rcpt")["address"].decode() == rcpts[i]
            assert b"\tfor <" not in rig.stored(told)[0]


def test_qmgr_may_come_and_go():
    with Rig() as rig:
        smtpd = rig.smtpd()
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        qmgr = rig.child.peer("ROLE_QMGR")
        opened = qmgr.expect("segment_open")
        size = os.stat(os.path.join(rig.queue, f"{opened['segment']:016x}.seg")).st_size
        assert 4096 < opened["end"] <= size
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        told = qmgr.expect("enqueue")
        assert told["offset"] >= opened["end"]
        qmgr.close()
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        qmgr = rig.child.peer("ROLE_QMGR")
        again = qmgr.expect("segment_open")
        assert again["segment"] == opened["segment"] and again["end"] > told["offset"] + told["length"]
        qmgr.send("segment_rotate", segment=opened["segment"])
        sealed = qmgr.expect("segment_sealed")
        assert sealed["segment"] == opened["segment"] and sealed["end"] == again["end"]
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        assert qmgr.expect("segment_open")["segment"] != opened["segment"]


def test_nonsense_from_qmgr_ends_the_process():
    with Rig() as rig:
        qmgr = rig.child.peer("ROLE_QMGR")
        qmgr.send("tx_begin", tx=1)
        assert wait(lambda: rig.child.process.poll() is not None)
        assert rig.child.process.returncode == 1


def test_draining_finishes_what_runs():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        tx = rig.begin(smtpd)
        smtpd.send("tx_content", tx=tx, bytes=PLAIN)
        assert wait(lambda: rig.child.status()["transactions"] == 1)
        rig.child.control.send("drain", within_ms=20000)
        rig.child.status()
        late = rig.submit(smtpd, PLAIN)
        code, text = rig.fate(smtpd, late)
        assert code == 451 and text.startswith("4.3.2 "), (code, text)
        smtpd.send("tx_end", tx=tx)
        assert rig.fate(smtpd, tx)[0] == 250
        names = []
        try:
            while True:
                names.append(qmgr.receive()[0])
        except Closed:
            pass
        assert names == ["segment_open", "enqueue", "enqueue_rcpt", "segment_sealed"], names
        rig.child.process.wait(20)
        assert rig.child.process.returncode == 0


def test_it_says_when_the_disk_is_full_and_recovers():
    with Rig() as rig:
        smtpd = rig.smtpd()
        rig.params["queue_minfree"] = str(1 << 50)
        rig.child.configure(rig.params)
        assert smtpd.expect("store_state")["state"] == C["STORE_FULL"]
        tx = rig.begin(smtpd)
        code, text = rig.fate(smtpd, tx)
        assert code == 452 and text.startswith("4.3.1 "), (code, text)
        rig.params["queue_minfree"] = "1000"
        rig.child.configure(rig.params)
        assert smtpd.expect("store_state")["state"] == C["STORE_OK"]
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        # More than there is room for.
        tx = rig.begin(smtpd, declared_bytes=1 << 60)
        assert rig.fate(smtpd, tx)[0] == 452


def test_a_disk_that_cannot_be_written_makes_it_sick_for_as_long_as_that_lasts():
    with Rig() as rig:
        qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        opened = qmgr.expect("segment_open")
        running = rig.begin(smtpd)
        smtpd.send("tx_content", tx=running, bytes=PLAIN)
        qmgr.expect("enqueue")
        qmgr.expect("enqueue_rcpt")
        qmgr.send("segment_rotate", segment=opened["segment"])
        qmgr.expect("segment_sealed")
        os.chmod(rig.queue, 0o500)
        try:
            smtpd.send("tx_end", tx=running)
            got = {}
            for _ in range(2):
                name, values, _ = smtpd.receive()
                got[name] = values
            assert got["store_state"]["state"] == C["STORE_SICK"], got
            assert got["tx_done"]["smtp_code"] == 451 and got["tx_done"]["text"].startswith(b"4.3.0 "), got
            # A newcomer is told at once, and nothing is taken.
            other = rig.child.peer("ROLE_SMTPD", 1)
            assert other.expect("store_state")["state"] == C["STORE_SICK"]
            assert rig.fate(other, rig.begin(other))[0] == 451
            # It goes on trying, and stays what it is.
            time.sleep(2.5)
            assert rig.child.status()["store"] == "sick"
        finally:
            os.chmod(rig.queue, 0o770)
        began = time.monotonic()
        assert smtpd.expect("store_state")["state"] == C["STORE_OK"]
        assert time.monotonic() - began < 5
        assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
        assert not [n for n in os.listdir(rig.queue) if n.startswith("probe")]


def test_lookups_fail_without_a_list():
    with Rig() as rig:
        smtpd = rig.smtpd()
        smtpd.send("lookup", request=7, address="x@example.net")
        done = smtpd.expect("lookup_done")
        assert done["request"] == 7 and done["result"] == C["LOOKUP_FAILED"], done
        rig.params["suppression_action"] = "off"
        rig.child.configure(rig.params)
        rig.child.status()
        smtpd.send("lookup", request=8, address="x@example.net")
        assert smtpd.expect("lookup_done")["result"] == C["LOOKUP_CLEAR"]


def test_who_does_not_read_the_answers_is_not_read():
    with Rig() as rig:
        smtpd, other = rig.smtpd(0), rig.smtpd(1)
        number, body = encode("lookup", request=7, address="x")
        frames = 5000 * (struct.pack(">IHBB", len(body), number, VERSION, 0) + body)
        smtpd.sock.settimeout(2)
        sent = 0
        try:
            while sent < 16 * 1024 * 1024:
                sent += smtpd.sock.send(frames[sent % len(frames):])
            raise AssertionError("16 MiB of questions were taken, and no answer was read")
        except TimeoutError:
            pass
        # Everybody else is served, and the one that reads again too.
        other.send("lookup", request=8, address="x@example.net")
        assert other.expect("lookup_done")["request"] == 8
        smtpd.sock.settimeout(None)
        asked = sent // (len(body) + 8)
        for _ in range(asked):
            assert smtpd.expect("lookup_done")["request"] == 7
        smtpd.sock.sendall(frames[sent % len(frames):])
        assert smtpd.expect("lookup_done")["request"] == 7


def test_lookups_say_why_an_address_is_on_the_list():
    rig = Rig()
    etc = os.path.join(rig.dir, "etc")
    os.mkdir(etc)
    with open(os.path.join(etc, "main.cf"), "w", encoding="ascii") as f:
        f.writelines(f"{name} = {rig.params[name]}\n" for name in ("queue_directory", "data_directory"))
    with open(os.path.join(etc, "master.cf"), "w", encoding="ascii") as f:
        f.write("127.0.0.1:2525 inet n - n - - smtpd\n")
    ekiden = os.path.join(os.environ.get("EKIDEN_BUILD", os.path.join(ROOT, "build")), "bin/ekiden")
    done = subprocess.run([ekiden, "-c", etc, "suppress", "add", "Gone@Example.net"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    if os.geteuid() == 0:
        for name in os.listdir(os.path.join(rig.dir, "lib/suppress")):
            os.chown(os.path.join(rig.dir, "lib/suppress", name), NOBODY, NOBODY)
    with rig:
        smtpd = rig.smtpd()
        for address, result in (("gone@example.net", C["LOOKUP_SUPPRESSED"]), ("GONE@EXAMPLE.NET", C["LOOKUP_SUPPRESSED"]),
                                ("here@example.net", C["LOOKUP_CLEAR"])):
            smtpd.send("lookup", request=1, address=address)
            got = smtpd.expect("lookup_done")
            assert got["result"] == result, (address, got)
            assert got["text"].startswith(b"manual since 20") == (result == C["LOOKUP_SUPPRESSED"]), got


def with_keys(rig, folder, kinds=("rs", "es")):
    keys = test_dkim.Keys(folder)
    rig.params["dkim_keys"] = "texthash:/keys"
    rig.files["texthash:/keys"] = "example.com " + " ".join(f"{k}:/{k}.pem" for k in kinds) + "\n"
    for kind in kinds:
        with open(keys.paths[kind], "rb") as f:
            rig.files[f"/{kind}.pem"] = f.read()
    return {kind: keys.record(kind) for kind in kinds}


def test_messages_are_signed_in_memory_and_on_disk():
    rig = Rig(message_size_limit="30000000")
    with tempfile.TemporaryDirectory() as folder:
        records = with_keys(rig, folder)
        for canonicalization in test_dkim.CANONICALIZATIONS:
            rig.params["dkim_canonicalization"] = canonicalization
            if rig.child is None:
                rig.__enter__()
                qmgr, smtpd = rig.child.peer("ROLE_QMGR"), rig.smtpd()
            else:
                rig.child.configure(rig.params, rig.files)
            rig.child.status()
            bodies = [b"", b"hi\r\n.\r\n..x\r\n\r\n\r\n", b".a line of text\r\n" * 100000 + b"\r\n\r\n"]
            for body in bodies:
                message = b"Bcc: y@example.net\r\n" + PLAIN + body
                assert rig.fate(smtpd, rig.submit(smtpd, stuff(message)), 60)[0] == 250
                name, told, _ = qmgr.receive()
                while name != "enqueue":
                    name, told, _ = qmgr.receive()
                head, content = rig.stored(told)
                whole = unstuff(head + content)
                assert whole.startswith(b"DKIM-Signature: ") and whole.endswith(PLAIN + body)
                held = test_dkim.verify(whole, records)
                assert held == {"rs": True, "es": True}, (canonicalization, len(body), held)
        status = rig.child.status()
        assert status["signed"] == 12, status
        rig.__exit__(None, None, None)


def test_bad_keys_are_refused_and_change_nothing():
    rig = Rig(dkim_required="yes")
    with tempfile.TemporaryDirectory() as folder:
        with_keys(rig, folder)
        with rig:
            smtpd = rig.smtpd()
            assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
            good = dict(rig.files)
            for text in ("garbage", good["/rs.pem"][:500]):
                rig.files["/rs.pem"] = text
                try:
                    rig.child.configure(rig.params, rig.files)
                    raise AssertionError("a bad key was taken")
                except Refused as why:
                    assert "example.com: /rs.pem: must hold a private key" in str(why), why
            assert rig.fate(smtpd, rig.submit(smtpd, PLAIN))[0] == 250
            assert rig.child.status()["signed"] == 2
            code, text = rig.fate(smtpd, rig.submit(smtpd, PLAIN.replace(b"example.com", b"example.org")))
            assert code == 550 and text.startswith("5.7.20 "), (code, text)
    rig = Rig(dkim_keys="texthash:/keys")
    rig.files = {"texthash:/keys": "example.com s1:/none.pem\n"}
    try:
        with rig:
            raise AssertionError("started without its key")
    except Refused as why:
        assert "/none.pem" in str(why)
    finally:
        shutil.rmtree(rig.dir, ignore_errors=True)


def test_memory_is_bounded():
    with Rig(message_size_limit="1000000") as rig:
        smtpd = rig.smtpd()
        txs = [rig.begin(smtpd) for _ in range(500)]
        piece = PLAIN + b"x" * 998 + b"\r\n"
        piece += (b"x" * 998 + b"\r\n") * 58
        for _ in range(4):
            for tx in txs:
                smtpd.send("tx_content", tx=tx, bytes=piece)
        assert wait(lambda: rig.child.status()["held_bytes"] < 70 << 20)
        for tx in txs:
            smtpd.send("tx_end", tx=tx)
        # Large ones come behind the small ones of their group.
        fates = {}
        while len(fates) < len(txs):
            done = smtpd.expect("tx_done", 120)
            fates[done["tx"]] = done["smtp_code"]
        assert fates == {tx: 250 for tx in txs}
        status = rig.child.status()
        assert status["accepted"] == 500 and status["held_bytes"] == 0, status


def main():
    tests = [(n, f) for n, f in sorted(globals().items()) if n.startswith("test_") and callable(f)]
    failed = False
    for name, run in tests:
        try:
            run()
            print(f"ok {name[5:]}", flush=True)
        except Exception as e:  # pylint: disable=broad-except
            failed = True
            print(f"not ok {name[5:]}: {type(e).__name__} {e}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
