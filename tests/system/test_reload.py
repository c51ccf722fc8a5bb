#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""The whole relay: reload and stop in the middle of things, programs that die, a master that is killed."""
import os
import signal
import smtplib
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import Cases, Relay, free_port, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

BODY = b'From: a@example.net\r\nSubject: x\r\n\r\n'


class Slow:
    """A client that stands in the middle of DATA."""

    def __init__(self, relay):
        self.s = socket.create_connection(('127.0.0.1', relay.port), 60)
        self.f = self.s.makefile('rwb')
        self.expect(b'220')
        for line in (b'EHLO c.example.net', b'MAIL FROM:<a@example.net>', b'RCPT TO:<b@example.com>'):
            self.say(line)
            self.expect(b'250')
        self.say(b'DATA')
        self.expect(b'354')
        self.f.write(BODY + b'first half\r\n')
        self.f.flush()

    def say(self, line):
        self.f.write(line + b'\r\n')
        self.f.flush()

    def expect(self, code):
        while True:
            line = self.f.readline()
            assert line.startswith(code), (code, line)
            if line[3:4] == b' ':
                return line

    def finish(self):
        self.say(b'second half\r\n.')
        return self.expect(b'250')


def arrived(sink, n):
    wait_until(lambda: sink.count >= n, '%d messages arrive (%d have)' % (n, sink.count))


def reload_keeps_transactions():
    """a reload in the middle of DATA: the transaction goes on, new sessions see the new settings"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as r:
        slow = Slow(r)
        before = r.pids()
        r.set(smtpd_banner='after.example.net ESMTP changed')
        for _ in range(5):
            r.reload()
        with r.smtp() as c:
            # The greeting has been read by connect(); ask again on a socket of our own.
            assert c.noop()[0] == 250
        with socket.create_connection(('127.0.0.1', r.port), 60) as s:
            assert b'changed' in s.makefile('rb').readline()
        slow.finish()
        arrived(sink, 1)
        assert r.pids() == before


def reload_under_load():
    """reloads while mail flows: every message that got its 250 arrives, no session breaks"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port, smtpd_processes=2, cleanup_processes=2) as r:
        sent, errors = [], []
        stop = threading.Event()

        def client(k):
            try:
                with smtplib.SMTP('127.0.0.1', r.port, timeout=60) as c:
                    while not stop.is_set():
                        c.sendmail('a@example.net', ['b%d@example.com' % k], BODY + b'x\r\n')
                        sent.append(k)
            except Exception as e:  # told below
                errors.append(repr(e))

        threads = [threading.Thread(target=client, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for i in range(10):
            r.set(myhostname='h%d.example.net' % i)
            r.reload()
        wait_until(lambda: len(sent) > 40 or errors, 'mail flows')
        stop.set()
        for t in threads:
            t.join(60)
        assert not errors, errors
        arrived(sink, len(sent))
        assert sink.count == len(sent), (sink.count, len(sent))


def listeners_change():
    """a port is added, moved, and taken away, without a restart"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as r:
        first, second = r.port, free_port()
        r.ports = [first, second]
        r.write_conf()
        r.reload()
        for port in (first, second):
            with r.smtp(port) as c:
                c.sendmail('a@example.net', ['b@example.com'], BODY)
        r.ports = [second]
        r.write_conf()
        r.reload()
        wait_until(lambda: not listens(first), 'the first port is closed')
        with r.smtp(second) as c:
            c.sendmail('a@example.net', ['b@example.com'], BODY)
        arrived(sink, 3)


def listens(port):
    try:
        socket.create_connection(('127.0.0.1', port), 5).close()
        return True
    except OSError:
        return False


def a_bad_reload_changes_nothing():
    """a reload with an error says so and leaves all as it was"""
    with Relay() as r:
        r.set(smtpd_timeout='soon')
        done = r.ctl('reload', check=False)
        assert done.returncode != 0 and 'smtpd_timeout' in done.stderr, done
        with r.smtp() as c:
            assert c.noop()[0] == 250
        r.set(smtpd_timeout='300s')
        r.reload()


def stop_finishes_transactions():
    """stop in the middle of DATA: listening ends at once, the transaction is finished, its mail is kept"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as r:
        slow = Slow(r)
        done = threading.Thread(target=r.stop)
        done.start()
        wait_until(lambda: not listens(r.port), 'nobody listens any more')
        slow.finish()
        done.join(60)
        assert not done.is_alive()
        r.start()
        arrived(sink, 1)


def stop_is_quick_when_idle():
    """an idle relay stops within eight seconds, and its sessions are told"""
    with Relay() as r:
        idle = socket.create_connection(('127.0.0.1', r.port), 60)
        f = idle.makefile('rb')
        f.readline()
        began = time.monotonic()
        r.stop()
        assert time.monotonic() - began < 8
        last = f.read()
        assert last == b'' or last.startswith(b'421'), last


def a_killed_master_is_replaced():
    """master is killed in the middle of things: the next start waits for its programs, and nothing is lost"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as r:
        n = 0
        for _ in range(3):
            r.send('a@example.net', ['b@example.com'], BODY)
            n += 1
            old = r.pids()
            os.kill(old['master-0'], signal.SIGKILL)
            r.start()
            for name, pid in r.pids().items():
                assert pid not in old.values(), name
            arrived(sink, n)


def each_program_may_die():
    """each program is killed once; mail flows before and after"""
    sink = Sink()
    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as r:
        sent = 0
        for name in ('smtpd-0', 'cleanup-0', 'qmgr-0', 'resolve-0', 'smtp-out-0', 'bounce-0'):
            old = r.pids()[name]
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: r.pids().get(name) not in (None, 0, old), name + ' is back')

            def send():
                try:
                    return r.send('a@example.net', ['b@example.com'], BODY)
                except (smtplib.SMTPException, OSError):
                    return None

            wait_until(send, 'mail is taken again')
            sent += 1
            arrived(sink, sent)


def main():
    cases = Cases()
    for f in (reload_keeps_transactions, reload_under_load, listeners_change, a_bad_reload_changes_nothing,
              stop_finishes_transactions, stop_is_quick_when_idle, a_killed_master_is_replaced,
              each_program_may_die):
        cases.run(f)
    cases.end()


if __name__ == '__main__':
    main()
