#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills programs of a relay under load, and looks whether a message that got 250 was lost.

    torture_kill.py [--kills N] [--seed S] [--rate KILLS_PER_SECOND] [--clients N]

Every program is hit; in some rounds a program is stopped before it is killed, or killed again
at once, and in some the whole relay is killed and started anew. The ledger is kept here,
outside of the relay: what was sent, what was acknowledged, what the receiver got. Exit status 1 when an
acknowledged recipient never arrived, or arrived damaged, or more often than what was in flight
around kills explains.
"""
import argparse
import hashlib
import os
import random
import signal
import smtplib
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import Relay, wait_until  # noqa: E402
from sink import Sink  # noqa: E402


def children(pid):
    found = {}
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        try:
            with open('/proc/%s/stat' % name) as f:
                text = f.read()
        except OSError:
            continue
        comm, rest = text[text.index('(') + 1:text.rindex(')')], text[text.rindex(')') + 2:].split()
        if int(rest[1]) == pid and rest[0] != 'Z':
            found[int(name)] = comm
    return found


class Clients:
    """Threads that send without pause and write down what was acknowledged."""

    def __init__(self, port, count, seed):
        self.port, self.stop = port, threading.Event()
        self.lock = threading.Lock()
        self.sent, self.acked, self.hashes = 0, {}, {}
        self.threads = [threading.Thread(target=self.run, args=(i, random.Random(seed * 1000 + i)), daemon=True)
                        for i in range(count)]
        for t in self.threads:
            t.start()

    def run(self, number, rng):
        n = 0
        while not self.stop.is_set():
            try:
                c = smtplib.SMTP(timeout=20)
                c.connect('127.0.0.1', self.port)
                c.ehlo('client.example.net')
                for _ in range(rng.randint(1, 30)):
                    if self.stop.is_set():
                        break
                    n += 1
                    self.one(c, '%d-%d' % (number, n), rng)
                c.close()
            except (OSError, smtplib.SMTPException):
                self.stop.wait(0.02)

    def one(self, c, ident, rng):
        rcpts = ['r%d-%s@example.com' % (i, ident) for i in range(rng.choice((1, 1, 1, 2, 3, 20)))]
        size = rng.choice((100, 1000, 4000, 4000, 30000, 400000 if rng.random() < 0.1 else 4000))
        body = b''.join(b'%06d %s\r\n' % (i, b'x' * 60) for i in range(size // 70 + 1))
        with self.lock:
            self.sent += 1
            self.hashes[ident] = hashlib.sha256(body).hexdigest()
        for what, good in ((lambda: c.mail('s@example.net'), 250), ):
            if what()[0] != good:
                c.rset()
                return
        for r in rcpts:
            if c.rcpt(r)[0] != 250:
                c.rset()
                return
        code, _ = c.data(b'From: s@example.net\r\nSubject: t\r\nX-Test-Id: ' + ident.encode() + b'\r\n\r\n' + body)
        if code == 250:
            with self.lock:
                self.acked[ident] = rcpts

    def end(self):
        self.stop.set()
        for t in self.threads:
            t.join(60)


def alive(pid):
    """A zombie is dead, whoever has not looked after it yet."""
    try:
        with open('/proc/%d/stat' % pid) as f:
            return f.read().rsplit(')', 1)[1].split()[0] not in ('Z', 'X')
    except OSError:
        return False


class Killer:
    def __init__(self, relay, rng):
        self.relay, self.rng = relay, rng
        self.hits, self.whole = {}, 0

    def master(self):
        with open(os.path.join(self.relay.queue, 'run', 'master.pid')) as f:
            return int(f.read().split()[0])

    def kill(self, pid, how=signal.SIGKILL):
        try:
            os.kill(pid, how)
            return True
        except OSError:
            return False

    def whole_relay(self):
        pid = self.master()
        for p in [pid, *children(pid)]:
            self.kill(p)
        wait_until(lambda: not alive(pid), 'a killed master is gone')
        self.relay.ctl('start')
        self.whole += 1

    def round(self):
        draw = self.rng.random()
        if draw < 0.02:
            self.whole_relay()
            return 1
        kids = children(self.master())
        if not kids:
            return 0
        # Rarely hit programs first, so that all are hit.
        roles = sorted(set(kids.values()), key=lambda r: (self.hits.get(r, 0), self.rng.random()))
        role = roles[0] if self.rng.random() < 0.4 else self.rng.choice(roles)
        pid = self.rng.choice([p for p, r in kids.items() if r == role])
        if draw < 0.10 and self.kill(pid, signal.SIGSTOP):
            time.sleep(0.3)
        if not self.kill(pid):
            return 0
        self.hits[role] = self.hits.get(role, 0) + 1
        return 1


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument('--kills', type=int, default=300)
    ap.add_argument('--seed', type=int, default=int(time.time()))
    ap.add_argument('--rate', type=float, default=4.0)
    ap.add_argument('--clients', type=int, default=4)
    ap.add_argument('--drain', type=float, default=180)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    print('# seed %d' % args.seed, flush=True)
    damaged = []

    def check(got):
        ident, body = got.id, got.content.split(b'\r\n\r\n', 1)[1]
        if clients and clients.hashes.get(ident) != hashlib.sha256(body).hexdigest():
            damaged.append(ident)
        got.content = None
        return '250 2.0.0 taken'

    clients = None
    with Sink(dot_reply=check) as sink, \
            Relay(relayhost='[127.0.0.1]:%d' % sink.port, cleanup_processes=2, smtpd_processes=2,
                  smtp_processes=2, minimal_backoff_time='1s', maximal_backoff_time='2s',
                  restart_delay_limit='1s') as relay:
        clients = Clients(relay.port, args.clients, args.seed)
        killer = Killer(relay, rng)
        kills = 0
        began = time.monotonic()
        while kills < args.kills:
            time.sleep(rng.expovariate(args.rate))
            kills += killer.round()
        clients.end()
        wanted = {(i, r) for i, rcpts in clients.acked.items() for r in rcpts}

        def missing():
            return [k for k in wanted if sink.ledger[k] == 0]
        end = time.monotonic() + args.drain
        while missing() and time.monotonic() < end:
            time.sleep(0.2)
        lost = missing()
        twice = sum(n - 1 for n in sink.ledger.values() if n > 1)
        print('# %d kills (%s, whole relay %d) in %.0f s: %d messages sent, %d acknowledged, %d recipients; '
              '%d lost, %d damaged, %d delivered again' % (
                  kills, ', '.join('%s %d' % kv for kv in sorted(killer.hits.items())), killer.whole,
                  time.monotonic() - began, clients.sent, len(clients.acked), len(wanted), len(lost),
                  len(damaged), twice), flush=True)
        bad = 0

        def case(ok, name, why):
            nonlocal bad
            print('ok ' + name if ok else 'not ok %s: %s' % (name, why), flush=True)
            bad += 0 if ok else 1
        case(len(wanted) > args.kills, 'mail flows between the kills', '%d recipients only' % len(wanted))
        case(not lost, 'no acknowledged recipient is lost', '%d: %s' % (len(lost), lost[:5]))
        case(not damaged, 'no message arrives damaged', '%d: %s' % (len(damaged), damaged[:5]))
        # In flight at a kill: what the connections of the killed program carried.
        bound = 40 * (kills + 8 * killer.whole)
        case(twice <= bound, 'duplicates stay within what was in flight', '%d > %d' % (twice, bound))
        programs = {'smtpd', 'cleanup', 'qmgr', 'resolve', 'smtp-out', 'bounce'}
        if args.kills >= 60:
            case(programs <= set(killer.hits), 'every program is hit', str(sorted(killer.hits)))
        corrupt = os.listdir(os.path.join(relay.queue, 'corrupt'))
        case(not corrupt, 'nothing is set aside as damaged', str(corrupt[:5]))
        if lost:
            relay.keep = True
            print('# kept: ' + relay.dir)
            print('# ' + relay.tail(80).replace('\n', '\n# '))
    sys.exit(1 if bad else 0)


if __name__ == '__main__':
    main()
