#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""bounce alone: the test is its master, its qmgr, its cleanup and its operator."""

import email
import email.policy
import mmap
import os
import random
import re
import shutil
import socket
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "support"))
from child import Child, NOBODY, Refused  # noqa: E402
from ipc import C, Channel, Closed  # noqa: E402

HEAD = b"Received: by relay.example.lab id QQ\r\n"
CONTENT = (b"From: a@example.lab\r\nTo: b@example.net\r\nSubject: hello\r\n"
           b"Message-ID: <m1@example.lab>\r\n\r\nfirst\r\n..dot\r\nlast\r\n")
FILTER_BYTES = 4 * 1024 * 1024


class World:
    """bounce in a place of its own, with one qmgr and one cleanup."""

    def __init__(self, cleanup=True, **params):
        self.dir = tempfile.mkdtemp(prefix="ekiden-bounce.")
        os.chmod(self.dir, 0o755)
        for name in ("journal", "suppress"):
            os.mkdir(os.path.join(self.dir, name))
            if os.geteuid() == 0:
                os.chown(os.path.join(self.dir, name), NOBODY, NOBODY)
        self.params = {"myhostname": "relay.example.lab", "queue_directory": self.dir,
                       "data_directory": self.dir, **params}
        self.next = 0
        self.child = None
        self.start(cleanup)

    def start(self, cleanup=True):
        self.child = Child("bounce", "ROLE_BOUNCE",
                           {**self.params, "queue_directory": self.dir,
                            "data_directory": self.dir + "/."})
        self.qmgr = self.child.peer("ROLE_QMGR")
        self.cleanup = self.child.peer("ROLE_CLEANUP") if cleanup else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.child:
            self.child.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def notice(self, rcpts, kind="FAILED", sender="a@example.lab", head=HEAD, content=CONTENT,
               flags=0, ret=0, envid="", cut=0):
        self.next += 1
        path = os.path.join(self.dir, "segment")
        with open(path, "wb") as f:
            f.write(b"x" * 100 + head + b"y" * 50 + content)
            f.truncate(f.tell() - cut)
        fd = os.open(path, os.O_RDONLY)
        self.qmgr.send("notice", fd=fd, notice=self.next, kind=C["NOTICE_" + kind],
                       head_offset=100, head_bytes=len(head),
                       content_offset=150 + len(head), content_bytes=len(content),
                       flags=flags, accepted_us=1780000000000000, queue_id="3QxBcD9fGhJk",
                       sender=sender, envid=envid, ret=ret, rcpt_count=len(rcpts))
        os.close(fd)
        for r in rcpts:
            self.qmgr.send("notice_rcpt", notice=self.next, **r)
        return self.next

    def take(self, channel=None):
        """The next transaction at cleanup: (begin, rcpts, content)."""
        channel = channel or self.cleanup
        begin = channel.expect("tx_begin")
        rcpts, content = [], b""
        for _ in range(begin["rcpt_count"]):
            rcpts.append(channel.expect("tx_rcpt"))
        while True:
            name, values, _ = channel.receive()
            if name == "tx_end":
                return begin, rcpts, content
            assert name == "tx_content", name
            content += values["bytes"]

    def deliver(self, **kw):
        """One notice through to its end; the parsed message."""
        self.notice(**kw)
        begin, rcpts, content = self.take()
        self.cleanup.send("tx_done", tx=begin["tx"], smtp_code=250, text="4RyCdF2gHjKl")
        done = self.qmgr.expect("notice_done")
        assert done["ok"] == 1 and done["notice_queue_id"] == b"4RyCdF2gHjKl", done
        assert done["notice"] == self.next
        return begin, rcpts, content


def rcpt(address="b@example.net", text="5.1.1 no such user", code=550, stage="RCPT", **more):
    status = [int(n) for n in re.match(r"([245])\.(\d+)\.(\d+)", text).groups()] if re.match(
        r"[245]\.\d+\.\d+", text) else [0, 0, 0]
    return {"address": address, "text": text, "smtp_code": code, "stage": C["STAGE_" + stage],
            "status_class": status[0], "status_subject": status[1], "status_detail": status[2],
            "host": "mx.example.net", "addr": "192.0.2.1", "last_attempt_us": 1780000100000000,
            **more}


def parse(wire):
    """As strictly as Python can: no defect anywhere. Dots are taken off first."""
    assert wire.endswith(b"\r\n")
    lines = wire[:-2].split(b"\r\n")
    for line in lines:
        assert len(line) <= 1000 and b"\n" not in line and b"\r" not in line and b"\0" not in line
        assert not line.startswith(b".") or line.startswith(b".."), line
    plain = b"\r\n".join(x[1:] if x.startswith(b".") else x for x in lines) + b"\r\n"
    message = email.message_from_bytes(plain, policy=email.policy.SMTPUTF8)
    for part in message.walk():
        assert not part.defects, (part.get_content_type(), part.defects)
    return message


def parts(message):
    assert message.get_content_type() == "multipart/report", message.get_content_type()
    assert message.get_param("report-type") == "delivery-status"
    return list(message.iter_parts())


def fields(part):
    """The groups of message/delivery-status."""
    return [dict(g.items()) for g in part.get_payload()]


# ---- cases ----

def notices_that_cannot_be_stored_use_up_nothing():
    """However often they are asked for again, the one that can be stored at last is sent."""
    with World() as w:
        for n in range(1001):
            w.notice(rcpts=[rcpt(stage="CONTENT")], content=b"x\r\n")
            begin, _, _ = w.take()
            w.cleanup.send("tx_done", tx=begin["tx"], smtp_code=452, text="4.3.1 full")
            assert w.qmgr.expect("notice_done")["ok"] == 0, n
        w.deliver(rcpts=[rcpt(stage="CONTENT")])


def a_failed_recipient_gives_a_whole_notice():
    with World() as w:
        begin, rcpts, wire = w.deliver(rcpts=[rcpt(orcpt="rfc822;B@example.net")], envid="env+1")
        assert begin["sender"] == b"" and begin["flags"] & C["TX_DSN"]
        assert rcpts[0]["address"] == b"a@example.lab"
        m = parse(wire)
        assert m["From"] == "Mail Delivery System <MAILER-DAEMON@relay.example.lab>", m["From"]
        assert m["To"] == "<a@example.lab>" or m["To"] == "a@example.lab", m["To"]
        assert m["Auto-Submitted"] == "auto-replied"
        assert m["In-Reply-To"] == "<m1@example.lab>"
        assert m["Date"] and m["Message-ID"].endswith("@relay.example.lab>")
        assert "メールを配送できませんでした" in m["Subject"] and "could not be" in m["Subject"]
        text, status, original = parts(m)
        body = text.get_content()
        for piece in ("配送できませんでした", "could not be delivered", "<b@example.net>",
                      "mx.example.net [192.0.2.1]: 550 5.1.1 no such user"):
            assert piece in body, (piece, body)
        assert status.get_content_type() == "message/delivery-status"
        head, one = fields(status)
        assert head == {"Original-Envelope-Id": "env+1", "Reporting-MTA": "dns; relay.example.lab",
                        "Arrival-Date": "Thu, 28 May 2026 20:26:40 +0000",
                        "X-Queue-ID": "3QxBcD9fGhJk"}, head
        assert one == {"Original-Recipient": "rfc822; B@example.net",
                       "Final-Recipient": "rfc822; b@example.net", "Action": "failed",
                       "Status": "5.1.1", "Remote-MTA": "dns; mx.example.net",
                       "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
                       "Last-Attempt-Date": "Thu, 28 May 2026 20:28:20 +0000"}, one
        assert original.get_content_type() == "message/rfc822"
        inner = original.get_payload(0)
        assert inner["Subject"] == "hello" and inner["Received"].startswith("by relay")
        assert inner.get_payload() == "first\n.dot\nlast\n" or \
            inner.get_payload() == "first\r\n.dot\r\nlast\r\n", repr(inner.get_payload())


def kinds_and_wishes_decide_who_is_told():
    table = [
        ("FAILED", 0, True), ("FAILED", C["NOTIFY_FAILURE"], True),
        ("FAILED", C["NOTIFY_NEVER"], False), ("FAILED", C["NOTIFY_SUCCESS"], False),
        ("EXPIRED", 0, True), ("EXPIRED", C["NOTIFY_DELAY"], False),
        ("DELAYED", C["NOTIFY_DELAY"], True), ("DELAYED", 0, False),
        ("DELAYED", C["NOTIFY_FAILURE"], False),
        ("RELAYED", C["NOTIFY_SUCCESS"], True), ("RELAYED", 0, False),
    ]
    actions = {"FAILED": "failed", "EXPIRED": "failed", "DELAYED": "delayed",
               "RELAYED": "relayed"}
    classes = {"FAILED": "5", "EXPIRED": "4", "DELAYED": "4", "RELAYED": "2"}
    with World() as w:
        for kind, notify, due in table:
            told = [rcpt(notify=notify, text="words", code=0, stage="DATA")]
            if not due:
                w.notice(told, kind=kind)
                done = w.qmgr.expect("notice_done")
                assert done["ok"] == 1 and done["notice_queue_id"] == b"", (kind, notify, done)
                continue
            m = parse(w.deliver(rcpts=told, kind=kind)[2])
            one = fields(parts(m)[1])[1]
            assert one["Action"] == actions[kind] and one["Status"][0] == classes[kind], one
            full = parts(m)[2].get_content_type() == "message/rfc822"
            assert full == (kind in ("FAILED", "EXPIRED")), kind
        # Only those who want it are in it.
        m = parse(w.deliver(rcpts=[rcpt("x@example.net", notify=1), rcpt("y@example.net"),
                                   rcpt("z@example.net", notify=8)])[2])
        assert [f["Final-Recipient"] for f in fields(parts(m)[1])[1:]] == ["rfc822; y@example.net"]


def the_null_sender_is_told_nothing():
    with World() as w:
        w.notice([rcpt()], sender="")
        assert w.qmgr.expect("notice_done")["ok"] == 1
        w.notice([rcpt()], flags=C["TX_DSN"])
        assert w.qmgr.expect("notice_done")["ok"] == 1
        assert w.child.status()["notices_sent"] == 0


def what_is_sent_back_is_bounded():
    with World(bounce_size_limit="3000") as w:
        big = CONTENT + b"0123456789abcdef\r\n" * 1000
        m = parse(w.deliver(rcpts=[rcpt()], content=big)[2])
        back = parts(m)[2]
        assert back.get_content_type() == "text/rfc822-headers", back.get_content_type()
        assert "Subject: hello" in back.get_payload() and "0123" not in back.get_payload()
        m = parse(w.deliver(rcpts=[rcpt()], ret=C["RET_HDRS"])[2])
        assert parts(m)[2].get_content_type() == "text/rfc822-headers"
        headers = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 50) for i in range(200))
        m = parse(w.deliver(rcpts=[rcpt()], head=headers)[2])
        assert len(parts(m)[2].get_payload()) <= 3000
        # Lines that are too long for a message, bytes beyond ASCII, a segment that is cut off.
        m = parse(w.deliver(rcpts=[rcpt()], content=CONTENT + b"z" * 2500 + b"\r\n")[2])
        assert "z" * 900 in parts(m)[2].as_string()
        begin, _, wire = w.deliver(rcpts=[rcpt()], content=CONTENT.replace(b"hello", b"h\xe9llo"))
        assert begin["flags"] & C["TX_8BIT"] and b"h\xe9llo" in wire
        parse(wire)
        m = parse(w.deliver(rcpts=[rcpt()], cut=10)[2])
        assert len(parts(m)) == 2


def remote_text_stays_text():
    rng = random.Random(20261126)
    nasty = [b"\r\nX-Evil: 1", b"\n\n--=_", b"\0\x01\x1b[31m", b"\r\n.\r\n", b"\xe3\x81\x82\xff",
             b" ", b"\t", b"a" * 1200, b"Action: delivered\r\n", b"; ", b"\n"]
    with World() as w:
        for _ in range(60):
            text = b"".join(rng.choice(nasty) for _ in range(rng.randrange(1, 12)))[:2048]
            host = b"mx.example.net\r\nX-Evil: 1"[:rng.randrange(1, 30)]
            sent = [rcpt(text=text.decode("latin-1")) | {"text": text, "host": host,
                    "orcpt": b"rfc822;" + text[:400]} for _ in range(rng.randrange(1, 4))]
            m = parse(w.deliver(rcpts=sent, envid=text[:90])[2])
            assert "X-Evil" not in m
            assert [p.get_content_type() for p in parts(m)] == [
                "text/plain", "message/delivery-status", "message/rfc822"]
            groups = fields(parts(m)[1])
            assert len(groups) == 1 + len(sent), groups
            for g in groups:
                assert "X-Evil" not in g and g.get("Action", "failed") == "failed", g


def smtputf8_gives_the_global_types():
    with World() as w:
        begin, _, wire = w.deliver(rcpts=[rcpt("用户@例え.example")], flags=C["TX_SMTPUTF8"],
                                   sender="送信@example.lab")
        assert begin["flags"] & C["TX_SMTPUTF8"] and begin["flags"] & C["TX_8BIT"]
        m = parse(wire)
        status = parts(m)[1]
        assert status.get_content_type() == "message/global-delivery-status"
        assert "Final-Recipient: utf-8; 用户@例え.example".encode() in wire
        assert b"Content-Type: message/global\r\n" in wire


def dead_addresses_go_to_the_list_and_living_ones_do_not():
    with World() as w:
        filter_fd = os.memfd_create("filter")
        os.ftruncate(filter_fd, FILTER_BYTES)
        w.child.control.send("shared", kind=C["SHARED_SUPPRESS_FILTER"], fd=filter_fd)
        wait(lambda: w.child.status()["filter_ready"])
        w.deliver(rcpts=[rcpt("dead@example.net"), rcpt("full@example.net", "5.2.2 quota", 552),
                         rcpt("filter@example.net", "Unknown user", 550, "END_OF_DATA")])
        status = w.child.status()
        assert status["suppressed"] == 1 and status["suppress_added"] == 1, status
        with mmap.mmap(filter_fd, FILTER_BYTES, prot=mmap.PROT_READ) as m:
            assert any(m[i:i + 65536].strip(b"\0") for i in range(0, FILTER_BYTES, 65536))
        os.close(filter_fd)
        # It is on the disk: the next process has it.
        w.child.kill()
        w.start()
        assert w.child.status()["suppressed"] == 1
        w.deliver(rcpts=[rcpt("DEAD@example.net")])
        assert w.child.status()["suppressed"] == 1
    with World(suppression_action="off") as w:
        w.deliver(rcpts=[rcpt("dead@example.net")])
        assert w.child.status()["suppressed"] == 0


def wait(condition, seconds=30):
    import time
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def the_answer_waits_for_the_disk_of_cleanup():
    with World(cleanup=False) as w:
        w.notice([rcpt()])
        wait(lambda: w.child.status()["notices_waiting"] == 1)
        first = w.child.peer("ROLE_CLEANUP")
        begin, _, _ = w.take(first)
        first.close()  # dies with it: the next one gets it again
        second = w.child.peer("ROLE_CLEANUP")
        begin, _, _ = w.take(second)
        second.send("tx_done", tx=begin["tx"], smtp_code=452, text="4.3.1 no space")
        assert w.qmgr.expect("notice_done")["ok"] == 0
        # A refusal for good: less is sent back, then nothing, then it is given up.
        w.notice([rcpt()])
        sizes = []
        for _ in range(3):
            begin, _, content = w.take(second)
            sizes.append(len(content))
            second.send("tx_done", tx=begin["tx"], smtp_code=552, text="5.3.4 too large")
        assert sizes[0] > sizes[1] > sizes[2], sizes
        done = w.qmgr.expect("notice_done")
        assert done["ok"] == 1 and done["notice_queue_id"] == b"", done


def a_new_qmgr_asks_again():
    with World() as w:
        w.notice([rcpt()])
        begin, _, _ = w.take()
        w.qmgr.close()
        w.qmgr = w.child.peer("ROLE_QMGR")
        w.cleanup.send("tx_done", tx=begin["tx"], smtp_code=250, text="4RyCdF2gHjKl")
        w.deliver(rcpts=[rcpt()])
        assert w.child.process.poll() is None


def one_sender_gets_so_many_and_no_more():
    with World() as w:
        for _ in range(1000):
            w.notice([rcpt()])
        for _ in range(1000):
            begin = w.take()[0]
            w.cleanup.send("tx_done", tx=begin["tx"], smtp_code=250, text="4RyCdF2gHjKl")
        for _ in range(1000):
            assert w.qmgr.expect("notice_done")["notice_queue_id"] == b"4RyCdF2gHjKl"
        w.notice([rcpt()])
        assert w.qmgr.expect("notice_done")["notice_queue_id"] == b""
        w.deliver(rcpts=[rcpt()], sender="other@example.lab")


def operators_change_the_list():
    with World() as w:
        path = os.path.join(w.dir, "ctl.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        w.child.control.send("listen", id=0, name="ctl", fd=listener.fileno())

        def ask(verb, operand):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            c = Channel(s)
            c.send("hello", role=C["ROLE_CTL"])
            c.expect("hello")
            c.send("ctl_ask", verb=C[verb], operand=operand, text="a note", operator_name="root")
            done = c.expect("ctl_done")
            c.close()
            return done["exit_code"], done["count"]

        assert ask("CTL_SUPPRESS_ADD", "x@example.net") == (0, 1)
        assert ask("CTL_SUPPRESS_ADD", "x y@example.net")[0] == os.EX_DATAERR
        assert w.child.status()["suppressed"] == 1
        assert ask("CTL_SUPPRESS_REMOVE", "X@EXAMPLE.net") == (0, 1)
        assert ask("CTL_SUPPRESS_REMOVE", "x@example.net")[0] == os.EX_UNAVAILABLE
        assert ask("CTL_STOP", "")[0] == os.EX_USAGE
        assert w.child.status()["suppressed"] == 0
        listener.close()


def links_in_its_directory_lead_nowhere():
    """Whoever had captured it before could put them there; root follows none."""
    with World() as w:
        w.deliver(rcpts=[rcpt()])
        victim = os.path.join(w.dir, "victim")
        with open(victim, "w", encoding="ascii") as f:
            f.write("root's own\n")
        os.chmod(victim, 0o600)
        for name in ("lock.mdb", "data.mdb"):
            w.child.kill()
            path = os.path.join(w.dir, "suppress", name)
            os.rename(path, path + ".kept")
            os.symlink(victim, path)
            try:
                w.start()
                raise AssertionError(f"it started on {name}, a link")
            except (Closed, ConnectionResetError, BrokenPipeError, Refused):
                pass
            os.unlink(path)
            os.rename(path + ".kept", path)
            with open(victim, encoding="ascii") as f:
                assert f.read() == "root's own\n", name
            st = os.stat(victim)
            assert (st.st_mode & 0o777, st.st_uid) == (0o600, os.geteuid()), name
        w.start()
        assert w.child.status()["suppressed"] == 1


def what_root_restored_is_taken_over():
    if os.geteuid() != 0:
        return
    with World() as w:
        w.deliver(rcpts=[rcpt()])
        w.child.kill()
        for name in ("lock.mdb", "data.mdb"):
            path = os.path.join(w.dir, "suppress", name)
            assert os.stat(path).st_uid == NOBODY, name
            os.chown(path, 0, 0)
        w.start()
        assert w.child.status()["suppressed"] == 1
        assert os.stat(os.path.join(w.dir, "suppress/data.mdb")).st_mode & 0o777 == 0o640


def nonsense_from_qmgr_ends_it():
    with World() as w:
        w.qmgr.send("notice_rcpt", notice=99, address="x@y.z")
        w.child.process.wait(20)
        assert w.child.process.returncode != 0


def it_ends_when_told_to():
    with World() as w:
        w.deliver(rcpts=[rcpt()])
        assert w.child.stop() == 0


CASES = [a_failed_recipient_gives_a_whole_notice, kinds_and_wishes_decide_who_is_told,
         the_null_sender_is_told_nothing, what_is_sent_back_is_bounded, remote_text_stays_text,
         smtputf8_gives_the_global_types, dead_addresses_go_to_the_list_and_living_ones_do_not,
         the_answer_waits_for_the_disk_of_cleanup, a_new_qmgr_asks_again,
         one_sender_gets_so_many_and_no_more,
         notices_that_cannot_be_stored_use_up_nothing, operators_change_the_list,
         links_in_its_directory_lead_nowhere, what_root_restored_is_taken_over,
         nonsense_from_qmgr_ends_it, it_ends_when_told_to]


def main():
    failed = 0
    for case in CASES:
        try:
            case()
            print(f"ok {case.__name__}", flush=True)
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            traceback.print_exc()
            print(f"not ok {case.__name__}: {type(e).__name__}: {str(e)[:300]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
