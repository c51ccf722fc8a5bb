#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""What operators do to a queue, what becomes of damaged and half-empty files in it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import Cases, Relay, free_port, wait_until  # noqa: E402
from sink import Sink  # noqa: E402


def message(ident, size=200):
    return b'From: a@example.net\r\nX-Test-Id: ' + ident.encode() + b'\r\n\r\n' + (b'z' * 70 + b'\r\n') * (size // 72)


def two_ways(sink, dead, **settings):
    """A relay that finds good.example at the sink and dead.example nowhere."""
    relay = Relay(start=False, minimal_backoff_time='1h', maximal_backoff_time='1h', **settings)
    with open(os.path.join(relay.etc, 'transport'), 'w') as f:
        f.write('good.example smtp:[127.0.0.1]:%d\ndead.example smtp:[127.0.0.1]:%d\n' % (sink.port, dead))
    relay.set(transport_maps='texthash:%s/transport' % relay.etc)
    relay.start()
    return relay


def rows(relay):
    return {m['queue_id']: m for m in relay.json('queue', 'list')}


def rest(relay, *ids):
    """Exactly these messages are left in the queue, and nobody works on them."""
    def resting():
        detail = next(r for r in relay.json('status') if r.get('role') == 'qmgr')['detail']
        return detail['active'] == 0 and detail['in_flight'] == 0 and set(rows(relay)) == set(ids)
    wait_until(resting, 'these wait in the queue: %s' % (ids,))


def segments(relay):
    folder = os.path.join(relay.queue, 'queue')
    return {n: os.stat(os.path.join(folder, n)).st_size for n in os.listdir(folder) if n.endswith('.seg')}


def hold_release_delete():
    """hold, release, requeue, flush and delete do to a message what they say"""
    dead = free_port()
    with Sink() as sink:
        relay = two_ways(sink, dead)
        try:
            a = relay.send('s@example.net', ['x@dead.example'], message('a'))
            b = relay.send('s@example.net', ['y@dead.example'], message('b'))
            rest(relay, a, b)
            relay.ctl('queue', 'hold', a)
            with Sink(port=dead) as late:
                relay.ctl('queue', 'flush')
                wait_until(lambda: late.ledger[('b', 'y@dead.example')] == 1, 'the flushed one arrives')
                wait_until(lambda: set(rows(relay)) == {a}, 'the held one stays alone')
                relay.ctl('queue', 'release', a)
                wait_until(lambda: late.ledger[('a', 'x@dead.example')] == 1, 'the released one arrives')
                assert sum(late.ledger.values()) == 2
            c = relay.send('s@example.net', ['z@dead.example'], message('c'))
            rest(relay, c)
            relay.ctl('queue', 'requeue', c)
            rest(relay, c)
            relay.ctl('queue', 'delete', c)
            assert rows(relay) == {}, rows(relay)
            assert [e for e in relay.events('--qid', c) if e['event'] == 'final' and e['state'] == 'deleted']
            assert relay.ctl('queue', 'delete', c, check=False).returncode != 0
            assert relay.ctl('queue', 'hold', 'nonsense', check=False).returncode == 64
        finally:
            relay.close()


def hold_all_then_restart():
    """what is held stays held over a restart"""
    with Sink() as sink:
        relay = two_ways(sink, free_port())
        try:
            a = relay.send('s@example.net', ['x@dead.example'], message('a'))
            rest(relay, a)
            relay.ctl('queue', 'hold', 'ALL')
            relay.stop()
            relay.start()
            with Sink(port=int(open(relay.etc + '/transport').read().rsplit(':', 1)[1])) as late:
                relay.ctl('queue', 'flush')
                b = relay.send('s@example.net', ['y@dead.example'], message('b'))
                wait_until(lambda: late.ledger[('b', 'y@dead.example')] == 1, 'another one passes it')
                assert late.ledger[('a', 'x@dead.example')] == 0
                relay.ctl('queue', 'release', 'ALL')
                relay.ctl('queue', 'flush', 'ALL')
                wait_until(lambda: late.ledger[('a', 'x@dead.example')] == 1, 'the released one arrives')
                assert b != a
        finally:
            relay.close()


def little_that_is_alive_is_copied_forward():
    """a few waiting messages do not pin the space of many delivered ones, and keep their ids"""
    dead = free_port()
    with Sink(keep=False) as sink:
        relay = two_ways(sink, dead)
        try:
            ids = [relay.send('s@example.net', ['x%d@dead.example' % i, 'y%d@good.example' % i],
                              message('d%d' % i)) for i in range(3)]
            for i in range(60):
                relay.send('s@example.net', ['b%d@good.example' % i], message('g%d' % i, 100000))
            wait_until(lambda: sink.count == 63, 'the good mail is delivered')
            rest(relay, *ids)
            relay.stop()  # its writer seals the segment
            assert sum(segments(relay).values()) > 5 << 20, segments(relay)
            relay.start()
            wait_until(lambda: sum(segments(relay).values()) < 2 << 20, 'the old segment goes')
            assert set(rows(relay)) == set(ids), rows(relay)
            assert all(len(m['recipients']) == 1 for m in rows(relay).values()), rows(relay)
            relay.stop()
            relay.start()
            with Sink(port=dead) as late:
                relay.ctl('queue', 'flush')
                wait_until(lambda: late.count == 3, 'the copied ones arrive')
                relay.drained()
                assert sorted(late.ledger.items()) == [(('d%d' % i, 'x%d@dead.example' % i), 1) for i in range(3)]
                assert b'\r\n\tby relay.example.net (Ekiden) with ESMTP id ' + ids[0].encode() in \
                    next(m.content for m in late.messages if m.id == 'd0')
        finally:
            relay.close()


def damaged_records_stop_nobody():
    """a damaged record is set aside and told of; the others of its file arrive"""
    dead = free_port()
    with Sink() as sink:
        relay = two_ways(sink, dead)
        try:
            ids = [relay.send('s@example.net', ['x%d@dead.example' % i], message('d%d' % i, 5000))
                   for i in range(9)]
            rest(relay, *ids)
            relay.stop()
            (name, _), = segments(relay).items()
            path = os.path.join(relay.queue, 'queue', name)
            with open(path, 'r+b') as f:
                data = f.read()
                for victim in (b'd2', b'd5'):  # the content of one, the header of another
                    at = data.index(b'X-Test-Id: ' + victim)
                    f.seek(at)
                    f.write(b'Y')
                # A header: the queue id stands in it.
                at = data.index(ids[7].encode())
                f.seek(at)
                f.write(b'#')
            relay.start()
            with Sink(port=dead) as late:
                relay.ctl('queue', 'flush')
                wait_until(lambda: late.count == 6, 'the healthy ones arrive')
                relay.drained()
                got = {k[0] for k in late.ledger}
                assert got == {'d%d' % i for i in (0, 1, 3, 4, 6, 8)}, got
            aside = os.listdir(os.path.join(relay.queue, 'corrupt'))
            assert len(aside) == 3, aside
            assert len([e for e in relay.events() if e['event'] == 'damage']) == 3
        finally:
            relay.close()


def torn_and_foreign_files_stop_nobody():
    """cut, empty, foreign and planted files in the queue folder stop no start and no mail"""
    dead = free_port()
    with Sink() as sink:
        relay = two_ways(sink, dead)
        folder = os.path.join(relay.queue, 'queue')
        try:
            ids = [relay.send('s@example.net', ['x%d@dead.example' % i], message('d%d' % i, 5000))
                   for i in range(5)]
            rest(relay, *ids)
            relay.stop()
            (name, size), = segments(relay).items()
            with open(os.path.join(folder, name), 'r+b') as f:
                data = f.read()
                f.truncate(data.index(b'X-Test-Id: d4') + 100)  # in the middle of the last record
            secret = os.path.join(relay.dir, 'secret')
            with open(secret, 'w') as f:
                f.write('root only')
            os.symlink(secret, os.path.join(folder, '00000000000000a1.seg'))
            os.mkfifo(os.path.join(folder, '00000000000000a2.seg'))
            os.mkdir(os.path.join(folder, '00000000000000a3.seg'))
            open(os.path.join(folder, '00000000000000a4.seg'), 'w').close()
            with open(os.path.join(folder, '00000000000000a5.seg'), 'wb') as f:
                f.truncate(1 << 32)  # sparse
            with open(os.path.join(folder, '00000000000000a6.seg'), 'wb') as f:
                f.write(os.urandom(300000))
            open(os.path.join(folder, 'README'), 'w').close()
            open(os.path.join(folder, 'x' * 200), 'w').close()
            relay.start()
            with Sink(port=dead) as late:
                relay.ctl('queue', 'flush')
                wait_until(lambda: late.count == 4, 'the whole ones arrive')
                assert {k[0] for k in late.ledger} == {'d0', 'd1', 'd2', 'd3'}
            relay.send('s@example.net', ['n@good.example'], message('new'))
            wait_until(lambda: sink.ledger[('new', 'n@good.example')] == 1, 'new mail flows')
            assert open(secret).read() == 'root only'
        finally:
            relay.close()


cases = Cases()
for case in (hold_release_delete, hold_all_then_restart, little_that_is_alive_is_copied_forward,
             damaged_records_stop_nobody, torn_and_foreign_files_stop_nobody):
    cases.run(case)
cases.end()
