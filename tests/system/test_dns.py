#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""Mail by way of the DNS, end to end: MX records decide where it goes, and what becomes of it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "support"))
from fakedns import FakeDns  # noqa: E402
from knot import Knot  # noqa: E402
from relay import Cases, Relay, free_port, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

MESSAGE = b"From: a@home.lab\r\nSubject: x\r\n\r\nbody\r\n"
# A network that a machine without such a route refuses at once, and loopback where nobody listens.
NOBODY = "127.66.0.9"
DOMAINS = ["%s.lab" % name for name in "one order implicit alias null sf noaddr nx real fake".split()]


class Post:
    """A relay whose mail goes to `port` of whatever the MX records say: two receivers there."""

    def __init__(self, zone, servers=None, **settings):
        self.port = free_port("127.0.0.1")
        self.one = Sink("127.66.0.1", self.port)
        self.two = Sink("127.66.0.2", self.port)
        self.dns = FakeDns(zone)
        self.relay = Relay(start=False, dns_servers=servers or self.dns.server,
                           minimal_backoff_time="1s", maximal_backoff_time="2s", **settings)
        table = os.path.join(self.relay.etc, "transport")
        with open(table, "w", encoding="utf-8") as f:
            f.writelines(f"{name} smtp:{name}:{self.port}\n" for name in DOMAINS)
        self.relay.set(transport_maps="texthash:" + table)
        self.relay.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.relay.__exit__(kind, value, trace)
        for s in (self.one, self.two, self.dns):
            s.close()

    def attempts(self, rcpt):
        return [e for e in self.relay.events() if e["event"] == "attempt" and e["rcpt"] == rcpt]

    def fate(self, rcpt):
        """The first attempt's result and status."""
        found = wait_until(lambda: self.attempts(rcpt), "an attempt for " + rcpt)
        return found[0]["result"], found[0]["status"], found[0]["reply"]


def mx(host, *more):
    return {"MX": ["10 " + host, *more]}


ZONE = {
    "one.lab": mx("mx1.lab"), "mx1.lab": {"A": ["127.66.0.1"]}, "mx2.lab": {"A": ["127.66.0.2"]},
    "mx9.lab": {"A": [NOBODY]},
    "order.lab": mx("mx9.lab", "20 mx2.lab", "30 mx1.lab"),
    "implicit.lab": {"A": ["127.66.0.1"]}, "alias.lab": {"CNAME": ["one.lab"]},
    "null.lab": {"MX": ["0 ."]}, "sf.lab": {"rcode": 2},
    "noaddr.lab": mx("nothing.lab"), "nothing.lab": {"TXT": ["x"]},
}


def mail_follows_mx():
    """mail goes where MX records say, to the next where nobody listens"""
    with Post(ZONE) as p:
        p.relay.send("a@home.lab", ["x@one.lab", "x@implicit.lab", "x@alias.lab"], MESSAGE)
        wait_until(lambda: sum(len(m.rcpts) for m in p.one.messages) == 3, "three are there")
        p.relay.send("a@home.lab", ["x@order.lab"], MESSAGE)
        wait_until(lambda: p.two.count == 1, "the second MX has it")
        assert len(p.attempts("x@order.lab")) == 1  # in the same attempt
        p.relay.drained()


def verdicts_reach_the_recipient():
    """null MX, no such domain and no address fail; a failing server delays"""
    with Post(ZONE) as p:
        p.relay.send("", ["x@null.lab", "x@nx.lab", "x@noaddr.lab", "x@sf.lab", "x@one.lab"],
                     MESSAGE)
        wait_until(lambda: p.one.count == 1, "the good one is delivered")
        for name, wanted in (("null", ("failed", "5.1.10")), ("nx", ("failed", "5.1.2")),
                             ("noaddr", ("failed", "5.4.4")), ("sf", ("deferred", "4.4.3"))):
            got = p.fate(f"x@{name}.lab")
            assert got[:2] == wanted, (name, got)
        assert p.one.connections + p.two.connections == 1
        # When the server has recovered, the mail goes on.
        p.dns.zone["sf.lab"] = mx("mx1.lab")
        wait_until(lambda: p.one.count == 2, "what was delayed arrives")
        p.relay.drained()


def forbidden_destinations_are_not_connected_to():
    """an MX record that leads to loopback gets no connection"""
    with Post(ZONE, smtp_forbidden_destinations="127.0.0.0/8 [::1]/128") as p:
        p.relay.send("", ["x@one.lab"], MESSAGE)
        result, status, reply = p.fate("x@one.lab")
        assert (result, status) == ("failed", "5.4.4") and "never" in reply, (result, reply)
        assert p.one.connections == 0


def an_outage_of_the_dns_loses_nothing():
    """an outage of the DNS delays everything and loses nothing"""
    records = "@ MX 10 mx\nmx A 127.66.0.1\n"
    with Knot({"real.lab": (True, records)}) as knot:
        with Post({}, servers=knot.server) as p:
            knot.freeze()
            for i in range(20):
                p.relay.send("a@home.lab", [f"u{i}@real.lab"], MESSAGE)
            p.relay.ctl("status")
            knot.thaw()
            wait_until(lambda: p.one.count == 20, "all are delivered after the outage", 120)
            assert not [e for e in p.relay.events()
                        if e["event"] == "attempt" and e["result"] == "failed"]


def signed_zones():
    """a signed zone is delivered to; one that does not validate is delayed"""
    records = "@ MX 10 mx\nmx A 127.66.0.1\n"
    with Knot({"real.lab": (True, records), "fake.lab": (False, records)}) as knot:
        anchors = knot.anchor("real.lab")
        anchors += anchors.replace("real.lab.", "fake.lab.")
        with Post({}, servers=knot.server) as p:
            path = os.path.join(p.relay.etc, "anchors")
            with open(path, "w", encoding="utf-8") as f:
                f.write(anchors)
            p.relay.set(dns_trust_anchor=path)
            p.relay.reload()
            p.relay.send("", ["x@real.lab", "x@fake.lab"], MESSAGE)
            wait_until(lambda: p.one.count == 1, "the signed one is delivered")
            result, status, reply = p.fate("x@fake.lab")
            assert (result, status) == ("deferred", "4.7.0") and "DNSSEC" in reply, reply
            routes = {e["name"]: e["dnssec"] for e in p.relay.events() if e["event"] == "route"}
            assert routes["real.lab"] == "secure", routes
            assert p.one.count == 1


def main():
    cases = Cases()
    for case in (mail_follows_mx, verdicts_reach_the_recipient,
                 forbidden_destinations_are_not_connected_to, an_outage_of_the_dns_loses_nothing,
                 signed_zones):
        cases.run(case)
    cases.end()


if __name__ == "__main__":
    main()
