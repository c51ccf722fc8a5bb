#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# serial
# san: no
"""A large queue and many idle sessions: what they cost. Sizes are asserted, speeds are only shown."""
import os
import resource
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import Cases, Relay, free_port, wait_until  # noqa: E402
from sink import Sink  # noqa: E402

os.environ['PATH'] += ':/usr/sbin:/sbin'
WAITING = int(os.environ.get('EKIDEN_WAITING', '100000'))
IDLE = int(os.environ.get('EKIDEN_IDLE', '5000'))


def rss(pid):
    with open('/proc/%d/status' % pid) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith('RssAnon:'))


def ticks(pid):
    with open('/proc/%d/stat' % pid) as f:
        words = f.read().rsplit(')', 1)[1].split()
    return int(words[11]) + int(words[12])


def fill(relay, recipients, per_message=100, domains=1000):
    """Queues recipients at dead domains."""
    body = b'From: a@example.net\r\nSubject: dead\r\n\r\nhello\r\n'
    with relay.smtp() as c:
        c.ehlo('client.example.net')
        for n in range(0, recipients, per_message):
            lines = [b'MAIL FROM:<a@example.net>\r\n']
            lines += [b'RCPT TO:<u%d@d%d.dead.example>\r\n' % (i, i % domains) for i in range(n, n + per_message)]
            c.sock.sendall(b''.join(lines) + b'DATA\r\n')
            for _ in range(per_message + 2):
                code, text = c.getreply()
                assert code in (250, 354), (code, text)
            c.sock.sendall(body + b'.\r\n')
            code, text = c.getreply()
            assert code == 250, (code, text)


def speed(relay, sink, n=2000):
    before = sink.count
    began = time.monotonic()
    subprocess.run(['smtp-source', '-d', '-s', '20', '-m', str(n), '-l', '4096', '-f', 'a@example.test',
                    '-t', 'b@good.example', '-N', '127.0.0.1:%d' % relay.port], check=True)
    wait_until(lambda: sink.count >= before + n, 'the good mail arrives')
    return n / (time.monotonic() - began)


def status(relay):
    return next(r for r in relay.json('status') if r.get('role') == 'qmgr')['detail']


def waiting_recipients_are_cheap():
    """a waiting recipient costs at most 150 bytes of qmgr, and a restart reads them all quickly"""
    with Sink(keep=False) as sink:
        relay = Relay(start=False, minimal_backoff_time='1h', maximal_backoff_time='1h', smtpd_recipient_limit=1000)
        dead = free_port()  # nobody listens there
        with open(os.path.join(relay.etc, 'transport'), 'w') as f:
            f.write('good.example smtp:[127.0.0.1]:%d\n' % sink.port)
            f.write('* smtp:[127.0.0.1]:%d\n' % dead)
        relay.set(transport_maps='texthash:%s/transport' % relay.etc)
        relay.start()
        try:
            speed(relay, sink, 300)
            alone = speed(relay, sink)
            qmgr = relay.pids()['qmgr-0']
            fill(relay, 2000)  # what the first of everything costs is not the price of one more
            wait_until(lambda: status(relay)['waiting'] >= 2000, 'the first recipients wait')
            before = rss(qmgr)
            fill(relay, WAITING)
            wait_until(lambda: status(relay)['waiting'] >= WAITING and status(relay)['active'] == 0,
                       'all recipients wait', 180)
            each = (rss(qmgr) - before) / WAITING
            full = speed(relay, sink)
            print('# %d waiting: %.0f bytes each; good mail at %.2f of its speed alone' % (
                WAITING, each, full / alone))
            assert each <= 150, '%.0f bytes each' % each
            relay.stop()
            began = time.monotonic()
            relay.start()
            ready = time.monotonic() - began
            queued = status(relay)['queued']
            print('# restart ready after %.2f s with %d queued' % (ready, queued))
            assert queued >= WAITING, queued
            began = time.monotonic()
            relay.send('a@example.net', ['b@good.example'], b'Subject: x\r\n\r\nx\r\n')
            assert ready < 20, 'ready after %.1f s' % ready
        finally:
            relay.close()


def idle_sessions_are_cheap():
    """an idle session costs at most 8 KiB of smtpd and no CPU"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE, hard - 500)
    with Relay(relayhost='[127.0.0.1]:9', smtpd_connection_limit=count + 100) as relay:
        pid = relay.pids()['smtpd-0']
        socks = []

        def more(n):
            new = []
            for i in range(n):
                s = socket.socket()
                s.bind(('127.0.0.%d' % (1 + i % 200), 0))
                s.connect(('127.0.0.1', relay.port))
                new.append(s)
            for s in new:
                assert s.recv(200).startswith(b'220')
                s.sendall(b'EHLO client.example.net\r\n')
            for s in new:
                text = b''
                while b'\r\n250 ' not in b'\r\n' + text:
                    text += s.recv(2000)
            socks.extend(new)
        try:
            more(200)
            before = rss(pid)
            while len(socks) < count:
                more(min(200, count - len(socks)))
            each = (rss(pid) - before) / (count - 200)
            used = ticks(pid)
            time.sleep(5)
            used = ticks(pid) - used
            print('# %d idle sessions: %.0f bytes each, %d ms of CPU in 5 s' % (
                count, each, used * 1000 // os.sysconf('SC_CLK_TCK')))
            assert each <= 8192, '%.0f bytes each' % each
            assert used <= 25, '%d ticks' % used
            # They still work.
            for s in socks[:: len(socks) // 20]:
                s.sendall(b'NOOP\r\n')
                assert s.recv(100).startswith(b'250')
        finally:
            for s in socks:
                s.close()


def one_message_on_an_idle_relay():
    """one message under light load: its times are shown"""
    with Sink() as sink, Relay(relayhost='[127.0.0.1]:%d' % sink.port) as relay:
        accept, leave = [], []
        for i in range(30):
            with relay.smtp() as c:
                c.ehlo('x.example.net')
                c.mail('a@example.net')
                c.rcpt('b@example.com')
                c.docmd('DATA')
                began = time.monotonic()
                c.sock.sendall(b'Subject: t\r\n\r\nbody\r\n.\r\n')
                assert c.getreply()[0] == 250
                accept.append(time.monotonic() - began)
                wait_until(lambda: sink.count > i, 'it arrives', every=0.0005)
                leave.append(time.monotonic() - began)
            time.sleep(0.05)
        accept.sort()
        leave.sort()
        print('# dot to 250: median %.1f ms; dot to the receiver: median %.1f ms' % (
            accept[15] * 1000, leave[15] * 1000))
        assert accept[15] < 1 and leave[15] < 2


cases = Cases()
for case in (waiting_recipients_are_cheap, idle_sessions_are_cheap, one_message_on_an_idle_relay):
    cases.run(case)
cases.end()
