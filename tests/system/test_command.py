#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""The command `ekiden': every verb, with a relay and without one."""

import json
import os
import pwd
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "support"))
from relay import PATIENCE, Cases, Relay, ekiden_binary, free_port, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
USAGE, DATAERR, NOINPUT, UNAVAILABLE, CANTCREAT, TEMPFAIL, NOPERM, CONFIG = 64, 65, 66, 69, 73, 75, 77, 78
MESSAGE = b"From: a@example.net\r\nSubject: hello\r\n\r\nfirst\r\n.dot\r\n"


def run(*args, **kw):
    kw.setdefault("env", {**os.environ, "LOGNAME": "tester"})
    return subprocess.run([ekiden_binary(), *args], stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=PATIENCE * 2, **kw)


def stuck_relay(**kw):
    """A relay whose next hop refuses connections: what it takes stays queued."""
    return Relay(relayhost="[127.0.0.1]:%d" % free_port(), minimal_backoff_time="1000s", **kw)


def tells_calls_that_make_no_sense():
    """Tells calls that make no sense"""
    for args in ([], ["nosuch"], ["--nosuch"], ["queue"], ["queue", "nosuch"], ["queue", "hold"],
                 ["queue", "hold", "x"], ["queue", "show"], ["queue", "show", "x"],
                 ["queue", "list", "x"], ["queue", "list", "--limit", "x"], ["conf", "-n", "-d"],
                 ["suppress"], ["suppress", "add"], ["suppress", "add", "no address"], ["log", "x"],
                 ["log", "--since", "yesterday"], ["log", "--event", "nosuch"], ["dkim"],
                 ["dkim", "create"], ["dkim", "create", "../x"], ["dkim", "create", "a b"],
                 ["dkim", "create", "example.com", "a/b"], ["start", "x"], ["stop", "x"],
                 ["status", "x"], ["reload", "x"], ["check", "x"], ["help", "nosuch"],
                 ["dkim", "create", "example.com", "--bits", "512"],
                 ["status", "-c", "/etc/ekiden"]):
        r = run("-c", "/nonexistent", *args)
        assert r.returncode == USAGE, (args, r)
        assert r.stderr.startswith("ekiden: ") and r.stderr.count("\n") == 1, (args, r)
        assert r.stdout == "", (args, r)


def explains_itself():
    """Explains itself"""
    whole = run("help")
    assert whole.returncode == 0 and run("--help").stdout == whole.stdout
    verbs = re.findall(r"^  (\S+) ", whole.stdout, re.M)
    assert {"start", "start-fg", "stop", "reload", "status", "check", "conf", "queue", "suppress",
            "log", "dkim"} <= set(verbs), verbs
    for verb in verbs:
        one = run("help", verb)
        assert one.returncode == 0 and one.stdout.startswith("ekiden [-c DIR] " + verb), one
        assert run(verb, "--help").stdout == one.stdout
    version = run("--version")
    assert version.returncode == 0 and re.fullmatch(r"ekiden \d+\.\d+\.\d+\n", version.stdout)


def says_that_no_relay_runs():
    """Says that no relay runs"""
    with Relay(start=False) as relay:
        for args in (["stop"], ["reload"], ["status"], ["queue", "hold", "ALL"], ["queue", "flush"],
                     ["queue", "sites"]):
            r = relay.ctl(*args, check=False)
            assert r.returncode == UNAVAILABLE, (args, r)
            assert "no relay runs" in r.stderr, (args, r)
        assert json.loads(relay.ctl("status", "--json", check=False).stdout) == {"running": False}
        assert relay.ctl("queue", "list", check=False).returncode == NOINPUT
        assert relay.ctl("log", check=False).returncode == NOINPUT
    r = run("-c", "/nonexistent", "queue", "list")
    assert r.returncode == CONFIG and "main.cf" in r.stderr, r


def checks_before_it_starts():
    """Checks the configuration, and starts nothing with a bad one"""
    with Relay(start=False) as relay:
        assert relay.ctl("check").returncode == 0
        relay.set(smtpd_timeout="soon", nonsense="1")
        r = relay.ctl("check", check=False)
        assert r.returncode == CONFIG, r
        line = list(relay.settings).index("smtpd_timeout") + 1
        assert "%s/main.cf:%d: error: smtpd_timeout: must be a time" % (relay.etc, line) in r.stderr, r
        assert "warning: nonsense: unknown parameter" in r.stderr, r
        said = json.loads(relay.ctl("check", "--json", check=False).stdout)
        assert not said["ok"] and {p["level"] for p in said["problems"]} == {"error", "warning"}, said
        r = relay.ctl("start", check=False)
        assert r.returncode == CONFIG and not os.path.exists(relay.queue + "/run"), r


def looks_into_keys_and_certificates():
    """Looks into keys and certificates"""
    with Relay(start=False) as relay:
        key, cert, other = (os.path.join(relay.dir, n) for n in ("key.pem", "cert.pem", "other.pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                        "-out", cert, "-days", "2", "-subj", "/CN=relay.example.net"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        relay.set(smtpd_tls_cert_file=cert, smtpd_tls_key_file=key, smtpd_tls_security_level="may")
        assert "fine" in relay.ctl("check").stdout
        relay.set(smtpd_tls_key_file=other)
        r = relay.ctl("check", check=False)
        assert r.returncode == CONFIG and "does not belong to the certificate" in r.stderr, r
        relay.set(smtpd_tls_cert_file=key, smtpd_tls_key_file=key)
        r = relay.ctl("check", check=False)
        assert r.returncode == CONFIG and "no certificate in" in r.stderr, r
        relay.set(smtpd_tls_cert_file="", smtpd_tls_security_level="",
                  dkim_keys="inline:{example.com=s:%s}" % cert)
        r = relay.ctl("check", check=False)
        assert r.returncode == CONFIG and "no private key in" in r.stderr, r


def shows_settings_like_postconf():
    """Shows settings as postconf does"""
    with Relay(start=False) as relay:
        with open(relay.etc + "/main.cf", "a") as f:
            f.write("mine = 7\nsmtpd_recipient_limit =\n  $mine\n")
        names = [line.split(" =")[0] for line in relay.ctl("conf", "-n").stdout.splitlines()]
        assert names == sorted(list(relay.settings) + ["mine", "smtpd_recipient_limit"]), names
        assert relay.ctl("conf", "smtpd_recipient_limit").stdout == "smtpd_recipient_limit = $mine\n"
        assert relay.ctl("conf", "-x", "-h", "smtpd_recipient_limit").stdout == "7\n"
        assert relay.ctl("conf", "-d", "smtpd_recipient_limit").stdout == "smtpd_recipient_limit = 1000\n"
        assert relay.ctl("conf", "relayhost").stdout == "relayhost =\n"
        r = relay.ctl("conf", "nosuch", "mine", check=False)
        assert r.returncode == DATAERR and r.stdout == "mine = 7\n", r
        rows = relay.json("conf")
        everything = relay.ctl("conf").stdout.splitlines()
        assert len(rows) == len(everything) > 90
        row = next(r for r in rows if r["name"] == "smtpd_recipient_limit")
        assert row["expanded"] == "7" and row["set"] and row["type"] == "COUNT", row


def starts_and_stops():
    """Returns from start when mail is accepted, and from stop when all is gone"""
    with Relay(start=False) as relay:
        assert relay.ctl("start").returncode == 0
        relay.started = True
        with relay.smtp() as c:
            assert c.ehlo()[0] == 250
        text = relay.ctl("status").stdout
        assert "relay.example.net: running" in text and "port %d" % relay.port in text, text
        assert re.search(r"^qmgr-0 +\d+ +up ", text, re.M), text
        pids = relay.pids()
        r = relay.ctl("start", check=False)
        assert r.returncode == TEMPFAIL and "already runs" in r.stderr, r
        assert relay.pids() == pids
        relay.stop()
        assert not any(os.path.exists("/proc/%d/exe" % pid) for pid in pids.values()), pids
        assert relay.ctl("stop", check=False).returncode == UNAVAILABLE


def leaves_no_descriptor_open():
    """Leaves whoever called start with nothing to wait for"""
    with Relay(start=False) as relay:
        p = subprocess.Popen([ekiden_binary(), "-c", relay.etc, "start"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        relay.started = True
        out, err = p.communicate(timeout=PATIENCE)  # ends only when both are closed
        assert p.returncode == 0 and out == b"", (p.returncode, out, err)


def logs_to_a_file_unless_told():
    """Logs to ekiden.log in data_directory when no maillog_file is named"""
    with Relay(start=False) as relay:
        del relay.settings["maillog_file"]
        relay.write_conf()
        relay.log = relay.data + "/ekiden.log"
        p = subprocess.Popen([ekiden_binary(), "-c", relay.etc, "start"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        relay.started = True
        out, err = p.communicate(timeout=PATIENCE)  # ends only when nobody holds them any more
        assert p.returncode == 0 and out == b"", (p.returncode, out, err)
        assert err == b"" if os.geteuid() == 0 else b"without jails" in err, err
        with open(relay.log) as f:
            assert "event=ready" in f.read()
        assert "log " + relay.log in relay.ctl("status").stdout


def stays_in_the_foreground():
    """Stays in the foreground with start-fg, and ends with SIGTERM"""
    with Relay(start=False) as relay:
        p = subprocess.Popen([ekiden_binary(), "-c", relay.etc, "start-fg"], stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: relay.ctl("status", check=False).returncode == 0 and
                       '"state":"running"' in relay.ctl("status", "--json").stdout, "it runs")
            assert p.poll() is None
            p.terminate()
            assert p.wait(PATIENCE) == 0
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()


def tells_why_a_port_cannot_be_had():
    """Tells why it did not start"""
    with Relay() as first:
        with Relay(start=False) as second:
            second.ports = [first.port]
            second.write_conf()
            r = second.ctl("start", check=False)
            assert r.returncode != 0 and str(first.port) in r.stderr, r
            assert r.stderr.startswith("ekiden: the relay did not start: cannot listen on "), r
            assert second.ctl("status", check=False).returncode == UNAVAILABLE


def runs_side_by_side():
    """Several relays run side by side, also below very long paths"""
    with Relay(prefix="ekiden-test-" + "long" * 20 + "-") as one, Relay() as two:
        assert not set(one.pids().values()) & set(two.pids().values())
        one.stop()
        assert two.ctl("status").returncode == 0


def shows_and_changes_the_queue():
    """Shows the queue and acts on it"""
    with stuck_relay() as relay:
        ids = [relay.send("from%d@example.net" % n, ["to%d@example.org" % n, "both@example.com"], MESSAGE)
               for n in range(3)]
        wait_until(lambda: all(r["attempts"] for m in relay.json("queue", "list")
                               for r in m["recipients"]) or relay.ctl("queue", "flush"),
                   "each was tried once", every=0.2)
        rows = relay.json("queue", "list")
        assert sorted(m["queue_id"] for m in rows) == sorted(ids)
        first = next(m for m in rows if m["queue_id"] == ids[0])
        assert first["sender"] == "from0@example.net" and first["live"] == 2, first
        assert first["recipients"][0]["stage"] == "connect", first
        assert abs(first["arrival_time"] - time.time()) < 600, first
        text = relay.ctl("queue", "list").stdout
        assert "3 messages, 6 recipients" in text and ids[1] in text and "next in" in text, text
        assert [m["queue_id"] for m in relay.json("queue", "list", "--rcpt", "to1@EXAMPLE.org")] == [ids[1]]
        assert len(relay.json("queue", "list", "--rcpt", "example.com")) == 3
        assert len(relay.json("queue", "list", "--sender", "from2@example.net")) == 1
        assert len(relay.json("queue", "list", "--limit", "2")) == 2

        assert relay.ctl("queue", "hold", ids[0]).stdout == "1 message held\n"
        held = relay.json("queue", "list", "--held")
        assert [m["queue_id"] for m in held] == [ids[0]] and held[0]["queue_name"] == "hold", held
        assert json.loads(relay.ctl("queue", "release", ids[0], "--json").stdout) == {
            "verb": "release", "count": 1, "ok": True}
        assert relay.json("queue", "list", "--held") == []
        assert relay.ctl("queue", "requeue", ids[0], ids[1]).stdout == "2 messages requeued\n"
        sites = relay.json("queue", "sites")
        assert len(sites) == 1 and "127.0.0.1" in sites[0]["site"], sites
        assert relay.ctl("queue", "sites").stdout.startswith("SITE ")

        assert relay.ctl("queue", "delete", ids[0]).stdout == "1 message deleted\n"
        r = relay.ctl("queue", "delete", ids[0], check=False)
        assert r.returncode == UNAVAILABLE and "no such message" in r.stderr, r
        r = relay.ctl("queue", "hold", ids[1], "nonsense", check=False)
        assert r.returncode == USAGE and r.stdout == "1 message held\n", r
        p = subprocess.run([ekiden_binary(), "-c", relay.etc, "queue", "delete", "-"], text=True,
                           input="%s\n\n%s\n" % (ids[1], ids[2]), stdout=subprocess.PIPE,
                           timeout=PATIENCE)
        assert p.returncode == 0 and p.stdout == "2 messages deleted\n", p
        assert relay.ctl("queue", "list").stdout == "The queue is empty.\n"


def shows_one_message():
    """Shows one message with its history, also when it is done and when nothing runs"""
    sink = Sink()
    with Relay(relayhost="[127.0.0.1]:%d" % sink.port) as relay:
        done = relay.send("a@example.net", ["b@example.org"], MESSAGE)
        relay.drained()
        wait_until(lambda: any(e["event"] == "attempt" for e in relay.events("--qid", done)),
                   "the journal tells of it")
        shown = json.loads(relay.ctl("queue", "show", done, "--json").stdout)
        assert [e["event"] for e in shown["history"]][:2] == ["accepted", "attempt"], shown
        assert shown["history"][1]["result"] == "delivered", shown
        text = relay.ctl("queue", "show", done).stdout
        assert "accepted" in text and "result=delivered" in text, text
        r = relay.ctl("queue", "show", "000000000000", check=False)
        assert r.returncode == UNAVAILABLE and r.stdout == "", r
    with stuck_relay() as relay:
        waits = relay.send("a@example.net", ["b@example.org"], MESSAGE)
        for running in (True, False):
            if not running:
                relay.stop()
            text = relay.ctl("queue", "show", waits, "--content").stdout
            assert "Subject: hello\n" in text and "\n\nfirst\n.dot\n" in text, text
            assert "first" not in relay.ctl("queue", "show", waits).stdout
            shown = json.loads(relay.ctl("queue", "show", waits, "--json").stdout)
            assert shown["queued"] and "Subject: hello\n" in shown["headers"], shown
            assert len(relay.json("queue", "list")) == 1
        assert relay.ctl("queue", "hold", waits, check=False).returncode == UNAVAILABLE


def keeps_the_suppression_list():
    """Keeps the suppression list, with a relay and without"""
    with Relay() as relay:
        for running in (True, False):
            if not running:
                relay.stop()
            assert relay.ctl("suppress", "list").stdout == "The list is empty.\n"
            if os.geteuid() == 0 and os.environ.get("EKIDEN_STAGE"):
                # Who may not look is not told that there is nothing.
                r = relay.ctl("suppress", "list", check=False, user="nobody", group="nogroup",
                              extra_groups=[])
                assert r.returncode == NOPERM and "not be used by this user" in r.stderr, r
            assert "is on the list" in relay.ctl("suppress", "add", "Gone@example.org", "left", "us").stdout
            rows = relay.json("suppress", "list")
            assert len(rows) == 1 and rows[0]["reason"] == "manual", rows
            assert "left us" in rows[0]["text"], rows
            shown = relay.json("suppress", "show", "gone@EXAMPLE.org")
            assert shown == rows
            assert "left us" in relay.ctl("suppress", "show", "gone@example.org").stdout
            assert "Gone@example.org" in relay.ctl("suppress", "list").stdout
            r = relay.ctl("suppress", "show", "other@example.org", check=False)
            assert r.returncode == UNAVAILABLE and "not on the list" in r.stderr, r
            relay.ctl("suppress", "remove", "gone@example.org")
            r = relay.ctl("suppress", "remove", "gone@example.org", check=False)
            assert r.returncode == UNAVAILABLE and "not on the list" in r.stderr, r
        # What the command made while nothing ran belongs to the programs.
        for name in os.listdir(relay.data + "/suppress"):
            os.unlink(os.path.join(relay.data, "suppress", name))
        relay.ctl("suppress", "add", "gone@example.org")
        relay.start()
        with relay.smtp() as c:
            c.ehlo()
            c.mail("a@example.net")
            wait_until(lambda: c.rcpt("gone@example.org")[0] >= 500 or c.rset() and c.mail("a@example.net") and False,
                       "the recipient is refused")
        if os.geteuid() == 0:
            owner = os.stat(relay.data + "/suppress").st_uid
            assert {os.stat(os.path.join(relay.data, "suppress", n)).st_uid
                    for n in os.listdir(relay.data + "/suppress")} == {owner}, pwd.getpwuid(owner)


def tells_the_journal():
    """Tells the journal, filtered and followed"""
    sink = Sink()
    with Relay(relayhost="[127.0.0.1]:%d" % sink.port) as relay:
        follow = subprocess.Popen([ekiden_binary(), "-c", relay.etc, "log", "--follow", "--event", "accepted"],
                                  stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        try:
            one = relay.send("a@example.net", ["b@example.org"], MESSAGE)
            two = relay.send("a@example.net", ["c@example.org"], MESSAGE)
            ready = select.select([follow.stdout], [], [], PATIENCE)[0]
            assert ready, "nothing came"
            got = [json.loads(follow.stdout.readline())["qid"] for _ in range(2)]
            assert got == [one, two], got
        finally:
            follow.kill()
            follow.wait()
        wait_until(lambda: len(relay.events("--event", "attempt")) == 2, "both attempts are told")
        assert [e["qid"] for e in relay.events("--rcpt", "C@example.org")] == [two]
        assert {e["qid"] for e in relay.events("--qid", one)} == {one}
        assert relay.events("--since", "2000-01-01") == relay.events()
        assert len(relay.events("--since", "1h")) == len(relay.events())
        text = relay.ctl("log", "--text", "--event", "accepted").stdout.splitlines()
        assert len(text) == 2 and "cleanup-0: accepted qid=" + one in text[0], text
        relay.ctl("queue", "flush", env={**os.environ, "SUDO_USER": "alice"})
        wait_until(lambda: [e["operator_name"] for e in relay.events("--event", "operated")] == ["alice"],
                   "the operator is named")


def makes_keys():
    """Makes DKIM keys that sign, and DNS records that zone files take"""
    with Relay(start=False) as relay:
        r = relay.ctl("dkim", "create", "example.com", "one", "--out", relay.dir + "/keys")
        key = relay.dir + "/keys/one.example.com.pem"
        assert os.stat(key).st_mode & 0o777 == 0o600
        assert "example.com one:" + key in r.stdout, r.stdout
        record = re.search(r"^one\._domainkey\.example\.com\. IN TXT \((.*?)\)$", r.stdout, re.M | re.S)
        pieces = re.findall(r'"([^"]*)"', record[1])
        assert len(pieces) == 2 and all(len(p) <= 255 for p in pieces), pieces
        public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        import base64
        assert "".join(pieces) == "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        r = relay.ctl("dkim", "create", "example.com", "one", "--out", relay.dir + "/keys", check=False)
        assert r.returncode == CANTCREAT and "exists" in r.stderr, r
        said = json.loads(relay.ctl("dkim", "create", "example.org", "--bits", "1024", "--json").stdout)
        assert said["key_file"] == relay.etc + "/dkim/ekiden.example.org.pem", said
        assert said["record_name"] == "ekiden._domainkey.example.org" and len(said["record"]) < 255, said
        relay.set(dkim_keys="inline:{{example.com = one:%s}, {example.org = ekiden:%s}}" % (key, said["key_file"]))
        assert "fine, 0 warnings" in relay.ctl("check").stdout


def tells_when_nobody_reads():
    """Fails when what it prints cannot be written"""
    with open("/dev/full", "w") as full:
        p = subprocess.run([ekiden_binary(), "help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 74 and "could not be written" in p.stderr, p


def takes_the_samples_and_postfix_own():
    """Takes the shipped samples, and what Postfix itself ships"""
    folder = tempfile.mkdtemp(prefix="ekiden-test-")
    try:
        for name in ("main.cf", "master.cf"):
            shutil.copy(os.path.join(TOP, "etc", name), folder)
        r = run("-c", folder, "check")
        assert r.returncode == 0 and "error" not in r.stderr, r
        shipped = "/usr/share/postfix"
        if os.path.exists(shipped + "/main.cf.debian") and os.path.exists("/etc/postfix/master.cf.proto"):
            with open(folder + "/main.cf", "w") as to:
                for name in ("main.cf.debian", "main.cf.tls"):
                    if os.path.exists(os.path.join(shipped, name)):
                        with open(os.path.join(shipped, name)) as f:
                            to.writelines(line for line in f if "snakeoil" not in line and "@" not in line)
            shutil.copy("/etc/postfix/master.cf.proto", folder + "/master.cf")
            r = run("-c", folder, "check")
            assert r.returncode == 0 and "unknown parameter" not in r.stderr, r
    finally:
        shutil.rmtree(folder)


cases = Cases()
for case in (tells_calls_that_make_no_sense, explains_itself, says_that_no_relay_runs, checks_before_it_starts,
             looks_into_keys_and_certificates, shows_settings_like_postconf, starts_and_stops,
             leaves_no_descriptor_open, logs_to_a_file_unless_told, stays_in_the_foreground, tells_why_a_port_cannot_be_had,
             runs_side_by_side, shows_and_changes_the_queue, shows_one_message, keeps_the_suppression_list,
             tells_the_journal, makes_keys, tells_when_nobody_reads, takes_the_samples_and_postfix_own):
    cases.run(case)
cases.end()
