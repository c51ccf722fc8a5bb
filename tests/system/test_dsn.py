#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Notices end to end: a relay, a receiver that refuses, and the sender's own receiver."""

import email
import email.policy
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "support"))
from relay import Cases, Relay, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

REFUSALS = {"dead": "550 5.1.1 <{}>: no such user", "full": "552 5.2.2 mailbox full",
            "later": "451 4.3.0 not now",
            "evil": "550-5.7.1 evil\r\n550-X-Evil: 1\r\n550 5.7.1 <script>\x1b[0m"}
MESSAGE = (b"From: a@home.example\r\nTo: b@away.example\r\nSubject: greetings\r\n"
           b"Message-ID: <m1@home.example>\r\n\r\nfirst\r\n.dot\r\nlast\r\n")


def refuse(rcpt):
    for word, reply in REFUSALS.items():
        if word in rcpt:
            return reply.format(rcpt.strip("<>"))
    return None


def notice(sink, n=1):
    wait_until(lambda: sink.count >= n, "the notice arrives")
    raw = sink.messages[n - 1]
    m = email.message_from_bytes(raw.content, policy=email.policy.SMTPUTF8)
    for part in m.walk():
        assert not part.defects, part.defects
    return raw, m, list(m.iter_parts())


class Post:
    """A relay between two receivers: home.example is the sender's, the rest is refused."""

    def __init__(self, **settings):
        self.home = Sink()
        self.away = Sink(refuse=refuse)
        self.relay = Relay(start=False, minimal_backoff_time="1s", maximal_backoff_time="2s",
                           relayhost="[127.0.0.1]:%d" % self.away.port, **settings)
        table = os.path.join(self.relay.etc, "transport")
        with open(table, "w", encoding="utf-8") as f:
            f.write("home.example smtp:[127.0.0.1]:%d\n" % self.home.port)
        self.relay.set(transport_maps="texthash:" + table)
        self.relay.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.relay.__exit__(kind, value, trace)
        self.home.close()
        self.away.close()


def a_refused_recipient():
    """a refused recipient comes back to the sender and goes to the list"""
    with Post() as p:
        qid = p.relay.send("a@home.example", ["dead@away.example", "ok@away.example"], MESSAGE)
        raw, m, parts = notice(p.home)
        assert raw.sender in ("", "<>"), raw.sender
        assert m["Auto-Submitted"] == "auto-replied" and m["In-Reply-To"] == "<m1@home.example>"
        assert m["To"] in ("<a@home.example>", "a@home.example"), m["To"]
        groups = [dict(g.items()) for g in parts[1].get_payload()]
        assert groups[0]["X-Queue-ID"] == qid, groups
        assert len(groups) == 2 and groups[1]["Final-Recipient"] == "rfc822; dead@away.example"
        assert groups[1]["Status"] == "5.1.1" and groups[1]["Action"] == "failed", groups
        assert "550 5.1.1 <dead@away.example>: no such user" in groups[1]["Diagnostic-Code"]
        inner = parts[2].get_payload(0)
        assert inner["Subject"] == "greetings"
        assert inner.get_payload().replace("\r\n", "\n") == "first\n.dot\nlast\n"
        p.relay.drained()
        assert p.away.count == 1
        listed = p.relay.json("suppress", "list")
        assert [e["address"] for e in listed] == ["dead@away.example"], listed
        # The next message to it is refused at once, with the reason.
        with p.relay.smtp() as c:
            c.ehlo("x.example")
            c.mail("a@home.example")
            code, text = c.rcpt("Dead@away.example")
            assert code == 550 and b"no such user" in text, (code, text)
        kinds = [e["event"] for e in p.relay.events()]
        assert "notice" in kinds and "suppress" in kinds, kinds


def nobody_is_told():
    """the null sender and NOTIFY=NEVER get no notice"""
    with Post() as p:
        p.relay.send("", ["full@away.example"], MESSAGE)
        p.relay.send("a@home.example", ["full@away.example"], MESSAGE,
                     rcpt_options=["NOTIFY=NEVER"])
        p.relay.drained()
        wait_until(lambda: sum(e["event"] == "notice" for e in p.relay.events()) == 2,
                   "both are decided")
        assert p.home.count == 0
        assert p.relay.json("suppress", "list") == []


def an_expired_message():
    """a message that expires comes back with the last answer"""
    with Post(maximal_queue_lifetime="3s") as p:
        p.relay.send("a@home.example", ["later@away.example"], MESSAGE,
                     mail_options=["ENVID=x+2By"])
        _, m, parts = notice(p.home)
        groups = [dict(g.items()) for g in parts[1].get_payload()]
        assert groups[0]["Original-Envelope-Id"] == "x+y", groups
        assert groups[1]["Action"] == "failed", groups
        assert "not now" in groups[1]["Diagnostic-Code"], groups
        assert p.relay.json("suppress", "list") == []
        p.relay.drained()


def a_hostile_server():
    """what a server says cannot become a part of the notice"""
    with Post() as p:
        p.relay.send("a@home.example", ["evil@away.example"], MESSAGE)
        _, m, parts = notice(p.home)
        assert "X-Evil" not in m and len(parts) == 3
        groups = [dict(g.items()) for g in parts[1].get_payload()]
        assert all("X-Evil" not in g for g in groups) and len(groups) == 2, groups
        assert "X-Evil: 1" in groups[1]["Diagnostic-Code"], groups


def success_is_told():
    """NOTIFY=SUCCESS to a server without DSN gives a relayed notice"""
    with Post() as p:
        p.relay.send("a@home.example", ["ok@away.example"], MESSAGE,
                     rcpt_options=["NOTIFY=SUCCESS", "ORCPT=rfc822;Ok@away.example"])
        _, m, parts = notice(p.home)
        groups = [dict(g.items()) for g in parts[1].get_payload()]
        assert groups[1]["Action"] == "relayed" and groups[1]["Status"].startswith("2."), groups
        assert groups[1]["Original-Recipient"] == "rfc822; Ok@away.example", groups
        assert parts[2].get_content_type() == "text/rfc822-headers"


def a_delay_is_told_once():
    """who asked for it is told once that a message waits; who did not is not"""
    with Post(delay_warning_time="2s", maximal_queue_lifetime="1h") as p:
        qid = p.relay.send("a@home.example", ["later@away.example"], MESSAGE,
                           rcpt_options=["NOTIFY=DELAY,FAILURE"])
        quiet = p.relay.send("b@home.example", ["later2@away.example"], MESSAGE,
                             rcpt_options=["NOTIFY=FAILURE"])
        _, _, parts = notice(p.home)
        groups = [dict(g.items()) for g in parts[1].get_payload()]
        assert groups[0]["X-Queue-ID"] == qid, groups
        assert groups[1]["Action"] == "delayed" and groups[1]["Status"] == "4.3.0", groups

        def attempts(of):
            return [e for e in p.relay.events("--qid", of) if e["event"] == "attempt"]
        told = len(attempts(qid))
        wait_until(lambda: len(attempts(qid)) >= told + 3 and len(attempts(quiet)) >= 4,
                   "more attempts are made")
        assert p.home.count == 1, [m.rcpts for m in p.home.messages]
        assert {m["queue_id"] for m in p.relay.json("queue", "list")} == {qid, quiet}


def main():
    cases = Cases()
    for case in (a_delay_is_told_once, a_refused_recipient, nobody_is_told, an_expired_message, a_hostile_server,
                 success_is_told):
        cases.run(case)
    cases.end()


if __name__ == "__main__":
    main()
