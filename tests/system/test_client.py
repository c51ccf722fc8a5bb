#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
"""What the relay does with servers that refuse, hang, lie or die: failover, reuse, outcomes.

Numbers are those of docs/CONFORMANCE.md, client half."""
import hashlib
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from fakedns import FakeDns  # noqa: E402
from fakemx import CLOSE, RESET, SILENCE, BlackHole, FakeMX, Slowly, Wait  # noqa: E402
from relay import Cases, Relay, free_port, wait_until  # noqa: E402

DOMAINS = 90


class Lab:
    """Domains whose MX records a case chooses; every server has an address of its own, and all
    have the same port."""

    def __init__(self):
        self.port = free_port()
        self.net = 20 + os.getpid() % 200
        self.used = 0
        self.domain_used = 0
        self.dns = FakeDns({})
        self.sink = FakeMX()
        self.open = []
        self.relays = {}

    def address(self):
        self.used += 1
        return '127.%d.%d.%d' % (self.net, self.used // 250, 1 + self.used % 250)

    def relay(self, name, **settings):
        """One relay for each set of settings; it lives until the end."""
        if name not in self.relays:
            r = Relay(start=False, dns_servers=self.dns.server, soft_bounce='no',
                      smtp_connection_cache_time_limit='5s', **settings)
            maps = os.path.join(r.etc, 'transport')
            with open(maps, 'w') as f:
                f.write('s.lab smtp:[127.0.0.1]:%d\n' % self.sink.port)
                f.writelines('d%d.lab smtp:d%d.lab:%d\n' % (i, i, self.port) for i in range(DOMAINS))
            r.set(transport_maps='texthash:' + maps)
            r.start()
            self.relays[name] = r
        return self.relays[name]

    def plain(self):
        return self.relay('plain')

    def hasty(self):
        """Short time limits, and soon another attempt: a slow machine only makes it take longer."""
        limit = {'smtp_%s_timeout' % n: '4s' for n in (
            'connect', 'helo', 'mail', 'rcpt', 'data_init', 'data_xfer', 'data_done', 'rset', 'starttls')}
        return self.relay('hasty', minimal_backoff_time='1s', maximal_backoff_time='2s', **limit)

    def server(self, **what):
        mx = FakeMX(host=self.address(), port=self.port, **what)
        self.open.append(mx)
        return mx

    def domain(self, *servers, aaaa=None):
        """A domain with these MX, (preference, server or address) or only server: 10, 20, 30 ..."""
        assert self.domain_used < DOMAINS
        name = 'd%d.lab' % self.domain_used
        self.domain_used += 1
        records = []
        for i, s in enumerate(servers):
            preference, s = s if isinstance(s, tuple) else (10 * (i + 1), s)
            host = 'mx%d.%s' % (i, name)
            address = s if isinstance(s, str) else s.host
            self.dns.zone[host] = {'AAAA' if ':' in address else 'A': [address]}
            records.append('%d %s' % (preference, host))
        self.dns.zone[name] = {'MX': records}
        return name

    def close(self):
        for r in self.relays.values():
            r.close()
        for x in self.open:
            x.close()
        self.sink.close()


LAB = None
MESSAGE = b'Subject: test\r\nFrom: a@s.lab\r\n\r\nbody\r\n'


def send(relay, domain, user='u', message=MESSAGE, **kw):
    users = [user] if isinstance(user, str) else user
    return relay.send('a@s.lab', ['%s@%s' % (u, domain) for u in users], message, **kw)


def attempts(relay, qid, results=None):
    return [e for e in relay.events() if e['event'] == 'attempt' and e.get('qid') == qid
            and (results is None or e['result'] in results)]


def outcome(relay, qid, *results, count=1):
    """The attempts of that message with these results (default: any)."""
    return wait_until(lambda: (lambda a: a if len(a) >= count else None)(attempts(relay, qid, results or None)),
                      'an outcome for ' + qid, every=0.1)


def one(relay, qid, result, **want):
    got = outcome(relay, qid)[0]
    want['result'] = result
    bad = {k: got[k] for k, v in want.items() if (v not in got[k] if k == 'reply' else got[k] != v)}
    assert not bad, 'wanted %s, got %s' % (want, got)
    return got


SILENT_READER = Wait(3600)  # not one more byte is read


# ---- choice of server ---------------------------------------------------------------------------

def preference():
    """1 the lowest preference is tried first"""
    second, first = LAB.server(), LAB.server()
    r = LAB.plain()
    for _ in range(5):
        one(r, send(r, LAB.domain((20, second), (10, first))), 'delivered', addr=first.host)
    assert not second.sessions


def spread():
    """1 equal preference: both are used"""
    a, b = LAB.server(), LAB.server()
    r = LAB.relay('single', smtp_connection_reuse_count_limit='1')
    domain = LAB.domain((10, a), (10, b))
    for i in range(40):
        send(r, domain, 'u%d' % i)
    wait_until(lambda: a.count + b.count == 40, 'all arrive')
    assert a.count > 3 and b.count > 3, (a.count, b.count)
    assert len(a.sessions) + len(b.sessions) == 40


def refused():
    """2 the first refuses the connection: the next, in the same attempt"""
    good = LAB.server()
    r = LAB.plain()
    one(r, send(r, LAB.domain(LAB.address(), good)), 'delivered', addr=good.host, attempt=1)


def silent():
    """3 the first does not answer SYN: the next"""
    good = LAB.server()
    with BlackHole(LAB.address(), LAB.port) as hole:
        r = LAB.hasty()
        outcome(r, send(r, LAB.domain(hole.host, good)), 'delivered')
    assert good.count == 1


def failover(name, greeting, **replies):
    def case():
        if greeting is not None:
            replies['GREETING'] = greeting
        bad, good = LAB.server(replies=replies), LAB.server()
        r = LAB.plain()
        one(r, send(r, LAB.domain(bad, good)), 'delivered', addr=good.host, attempt=1)
        assert len(bad.sessions) >= 1 and bad.count == 0
    case.__doc__ = name
    return case


def all_5xx():
    """4 every server greets with 5xx: the mail fails, RFC 7504"""
    a = LAB.server(replies={'GREETING': '554 5.7.1 not you'})
    b = LAB.server(replies={'GREETING': '521 5.3.2 no mail here'})
    r = LAB.plain()
    got = one(r, send(r, LAB.domain(a, b)), 'failed', stage='greeting')
    assert got['code'] in (521, 554)
    assert a.sessions and b.sessions
    wait_until(lambda: any(s.lines == ['QUIT'] for s in a.sessions), 'the relay says QUIT')


def some_5xx():
    """4 5xx from one, 4xx from the other: deferred"""
    a = LAB.server(replies={'GREETING': '554 5.7.1 not you'})
    b = LAB.server(replies={'GREETING': '450 4.3.2 later'})
    r = LAB.plain()
    one(r, send(r, LAB.domain(a, b)), 'deferred', code=450, stage='greeting')


def all_421():
    """5 every server greets with 421: deferred"""
    a = LAB.server(replies={'GREETING': ['421 4.7.0 too many', CLOSE]})
    b = LAB.server(replies={'GREETING': ['421 4.7.0 too many', CLOSE]})
    r = LAB.plain()
    one(r, send(r, LAB.domain(a, b)), 'deferred', code=421, reply='too many')
    assert len(a.sessions) == 1 and len(b.sessions) == 1


def all_refused():
    """5 no server listens: deferred; what comes meanwhile waits, nothing fails"""
    r = LAB.plain()
    domain = LAB.domain(LAB.address(), LAB.address())
    ids = [send(r, domain, 'u%d' % i) for i in range(5)]
    one(r, ids[0], 'deferred', stage='connect', reply='refused')
    assert all(e['result'] == 'deferred' for qid in ids for e in attempts(r, qid))
    text = r.ctl('queue', 'list', '--json').stdout
    assert all(qid in text for qid in ids), text


def address_limit():
    """16 no more than smtp_mx_address_limit addresses in one attempt"""
    servers = [LAB.server(replies={'GREETING': ['421 4.7.0 no', CLOSE]}) for _ in range(9)]
    r = LAB.plain()
    one(r, send(r, LAB.domain(*[(10, s) for s in servers])), 'deferred', code=421)
    assert sum(len(s.sessions) for s in servers) == 5


def forbidden():
    """14 forbidden addresses: not one connection, the mail fails with 5.4.4"""
    a, b = LAB.server(), LAB.server()
    good = LAB.server()
    r = LAB.relay('strict', smtp_forbidden_destinations='%s/32 %s/32 [::1]/128' % (a.host, b.host))
    one(r, send(r, LAB.domain(a, b)), 'failed', status='5.4.4')
    one(r, send(r, LAB.domain(a, good)), 'delivered', addr=good.host)
    assert not a.sessions and not b.sessions


def no_ipv6():
    """17 an IPv6 address that cannot be reached: IPv4 in the same attempt"""
    good = LAB.server()
    r = LAB.relay('both', inet_protocols='all')
    one(r, send(r, LAB.domain('2001:db8::1', good)), 'delivered', addr=good.host, attempt=1)


def many_addresses():
    """17 a host with several addresses: the others of it are tried"""
    good = LAB.server()
    r = LAB.plain()
    domain = LAB.domain(good)
    LAB.dns.zone['mx0.' + domain]['A'] = [LAB.address(), LAB.address(), good.host]
    one(r, send(r, domain), 'delivered', addr=good.host, attempt=1)


# ---- time limits ---------------------------------------------------------------------------------

def hang(name, key, thing=SILENCE):
    def case():
        bad, good = LAB.server(replies={key: thing}), LAB.server()
        r = LAB.hasty()
        outcome(r, send(r, LAB.domain(bad, good)), 'delivered')
        assert good.count == 1 and bad.sessions
    case.__doc__ = name
    return case


def hang_later(name, key, stage, duplicate=False):
    """A server that stops answering in the middle: deferred, and later delivered by itself."""
    def case():
        tries = []

        def once(session, line):
            tries.append(line)
            return SILENCE if len(tries) == 1 else None
        mx = LAB.server(replies={key: once})
        r = LAB.hasty()
        qid = send(r, LAB.domain(mx))
        first = outcome(r, qid, 'deferred')[0]
        assert first['stage'] == stage and first['maybe_duplicate'] == duplicate, first
        outcome(r, qid, 'delivered')
        ids = {t.field('Message-ID') for t in mx.transactions}
        assert len(ids) == 1, ids
        assert mx.count == (2 if duplicate else 1)
        if duplicate:
            assert mx.transactions[0].content == mx.transactions[1].content
    case.__doc__ = name
    return case


def stops_reading():
    """71 the server stops reading in the middle of the content: deferred, the slot is free"""
    bad = LAB.server(replies={'DATA': ['354 go', SILENT_READER]})
    r = LAB.hasty()
    got = outcome(r, send(r, LAB.domain(bad), message=MESSAGE + b'0123456789' * 6 * 100000 + b'\r\n'), 'deferred')[0]
    assert got['stage'] == 'content' and not got['maybe_duplicate'], got


def slow_bytes():
    """33 every reply in segments of one byte"""
    mx = LAB.server(replies={k: Slowly(v) for k, v in {
        'GREETING': '220 mx.example ESMTP', 'EHLO': '250-mx.example\r\n250-PIPELINING\r\n250 DSN',
        'MAIL': '250 2.1.0 ok', 'RCPT': '250 2.1.5 ok', 'DATA': '354 go', 'DOT': '250 2.0.0 taken'}.items()})
    r = LAB.plain()
    one(r, send(r, LAB.domain(mx)), 'delivered', reply='taken')


def tarpits():
    """86 servers that never greet do not hold up others"""
    pits = [LAB.server(replies={'GREETING': SILENCE}) for _ in range(5)]
    good = LAB.server()
    r = LAB.plain()
    for pit in pits:
        domain = LAB.domain(pit)
        for i in range(4):
            send(r, domain, 'u%d' % i)
    wait_until(lambda: all(p.sessions for p in pits), 'the tarpits are found')
    domain = LAB.domain(good)
    for i in range(30):
        send(r, domain, 'u%d' % i)
    wait_until(lambda: good.count == 30, 'good mail flows')
    assert all(p.count == 0 for p in pits)


# ---- the envelope ---------------------------------------------------------------------------------

def mixed():
    """58 each recipient has its own outcome, each exactly once"""
    mx = LAB.server(replies={'RCPT': lambda s, l: '550 5.1.1 unknown' if b'no' in l else
                             '450 4.2.1 busy' if b'later' in l else None})
    r = LAB.plain()
    qid = send(r, LAB.domain(mx), ['yes', 'no', 'later', 'yes2'])
    got = {e['rcpt'].split('@')[0]: e for e in outcome(r, qid, count=4)}
    assert {k: v['result'] for k, v in got.items()} == {
        'yes': 'delivered', 'yes2': 'delivered', 'no': 'failed', 'later': 'deferred'}, got
    assert got['no']['stage'] == 'rcpt' and got['yes']['stage'] == 'end_of_data'
    assert len(mx.transactions) == 1 and len(mx.transactions[0].rcpts) == 2


def lone_dot():
    """59 all recipients refused, DATA answered 354: nobody has the message"""
    mx = LAB.server(replies={'RCPT': '550 5.1.1 unknown', 'DATA': '354 go'})
    r = LAB.plain()
    one(r, send(r, LAB.domain(mx)), 'failed', stage='rcpt', code=550)
    wait_until(lambda: mx.transactions, 'the lone dot')
    assert mx.transactions[0].content == b''


def greylisted():
    """64 greylisting: delivered at the second attempt, from the same address and sender"""
    seen = []

    def rcpt(session, line):
        seen.append((session.peer, session.lines[-2] if len(session.lines) > 1 else ''))
        return '451 4.7.1 greylisted' if len(seen) == 1 else None
    mx = LAB.server(replies={'RCPT': rcpt}, keywords=())
    r = LAB.hasty()
    qid = send(r, LAB.domain(mx))
    assert outcome(r, qid, 'deferred')[0]['code'] == 451
    outcome(r, qid, 'delivered')
    assert len(set(seen)) == 1, seen


def rcpt_max():
    """82, 95 LIMITS RCPTMAX: in batches, each recipient once"""
    mx = LAB.server(keywords=('PIPELINING', 'LIMITS RCPTMAX=3'))
    r = LAB.hasty()
    users = ['u%d' % i for i in range(10)]
    qid = send(r, LAB.domain(mx), users)
    outcome(r, qid, 'delivered', count=10)
    got = [a for t in mx.transactions for a in t.rcpts]
    assert len(got) == 10 and len(set(got)) == 10, got
    assert max(len(t.rcpts) for t in mx.transactions) == 3


def too_many_recipients():
    """66, 95 452 4.5.3 after three: in batches, each recipient once"""
    mx = LAB.server(replies={'RCPT': lambda s, l: '452 4.5.3 too many recipients' if len(s.rcpts) == 3 else None})
    r = LAB.hasty()
    qid = send(r, LAB.domain(mx), ['u%d' % i for i in range(10)])
    outcome(r, qid, 'delivered', count=10)
    got = [a for t in mx.transactions for a in t.rcpts]
    assert len(got) == 10 and len(set(got)) == 10, got


def too_large():
    """50 SIZE smaller than the message: failed, not sent"""
    mx = LAB.server(keywords=('PIPELINING', 'SIZE 2000'))
    r = LAB.plain()
    domain = LAB.domain(mx)
    one(r, send(r, domain, message=MESSAGE + b'x' * 70 + b'\r\n' + b'y' * 3000 + b'\r\n'), 'failed', status='5.3.4')
    one(r, send(r, domain), 'delivered')
    assert mx.count == 1


def no_8bitmime():
    """53 8-bit content and no 8BITMIME: never sent as it is"""
    mx = LAB.server(keywords=('PIPELINING',))
    r = LAB.plain()
    qid = send(r, LAB.domain(mx), message=MESSAGE + 'größe\r\n'.encode(), mail_options=['BODY=8BITMIME'])
    got = outcome(r, qid)[0]
    assert got['result'] == 'failed' and got['status'] == '5.6.3', got
    assert mx.count == 0


def fidelity():
    """the content arrives byte for byte: dots, long lines, 8-bit"""
    body = (b'.\r\n..\r\n.a\r\n' + b'x' * 3000 + b'\r\n' + bytes(range(0x80, 0x100)) + b'\r\n \r\n\r\n' +
            b''.join(b'line %d %s\r\n' % (i, hashlib.sha256(b'%d' % i).hexdigest().encode()) for i in range(3000)) +
            b'.\r\n\r\n.')
    mx = LAB.server()
    r = LAB.plain()
    qid = send(r, LAB.domain(mx), message=MESSAGE + body + b'\r\n', mail_options=['BODY=8BITMIME'])
    one(r, qid, 'delivered')
    assert mx.transactions[0].content.endswith(MESSAGE + body + b'\r\n')
    assert ' BODY=8BITMIME' in mx.sessions[0].lines[1]


def dsn_passed_on():
    """56 DSN parameters are passed on, ORCPT as xtext"""
    mx = LAB.server()
    r = LAB.plain()
    domain = LAB.domain(mx)
    r.send('a@s.lab', ['u@' + domain], MESSAGE, mail_options=['RET=HDRS', 'ENVID=q+2B1'],
           rcpt_options=['NOTIFY=FAILURE', 'ORCPT=rfc822;x+2By@z.lab'])
    wait_until(lambda: mx.count == 1, 'it arrives')
    lines = mx.sessions[0].lines
    assert 'RET=HDRS' in lines[1] and 'ENVID=q+2B1' in lines[1], lines
    assert 'NOTIFY=FAILURE' in lines[2] and 'ORCPT=rfc822;x+2By@z.lab' in lines[2], lines


# ---- the content -----------------------------------------------------------------------------------

def early_refusal():
    """69 552 in the middle of the content: used"""
    mx = LAB.server(replies={'DATA': lambda s, l: ['354 go', Wait(0.2), '552 5.3.4 too large', SILENT_READER]})
    r = LAB.plain()
    qid = send(r, LAB.domain(mx), message=MESSAGE + (b'z' * 98 + b'\r\n') * 60000)
    got = one(r, qid, 'failed', code=552)
    assert got['stage'] == 'content', got


def reset_in_content():
    """70 a reset in the middle of the content: deferred, no duplicate to fear"""
    mx = LAB.server(replies={'DATA': ['354 go', Wait(0.2), RESET]})
    r = LAB.plain()
    qid = send(r, LAB.domain(mx), message=MESSAGE + (b'z' * 98 + b'\r\n') * 60000)
    got = outcome(r, qid)[0]
    assert got['result'] == 'deferred' and got['stage'] == 'content' and not got['maybe_duplicate'], got


def lost_after_dot(thing, name):
    def case():
        tries = []

        def dot(session, line):
            tries.append(line)
            return thing if len(tries) == 1 else None
        mx = LAB.server(replies={'DOT': dot})
        r = LAB.hasty()
        qid = send(r, LAB.domain(mx))
        first = outcome(r, qid, 'deferred')[0]
        assert first['maybe_duplicate'] and first['stage'] == 'end_of_data', first
        outcome(r, qid, 'delivered')
        assert mx.count == 2 and mx.transactions[0].content == mx.transactions[1].content
    case.__doc__ = name
    return case


def after_dot(reply, result):
    def case():
        mx = LAB.server(replies={'DOT': reply})
        r = LAB.plain()
        got = one(r, send(r, LAB.domain(mx)), result, stage='end_of_data')
        assert not got['maybe_duplicate']
        assert mx.count == 1
    case.__doc__ = '74 %s after the dot: %s' % (reply if isinstance(reply, str) else reply[0], result)
    return case


# ---- connections ------------------------------------------------------------------------------------

def reuse():
    """83 many messages, few connections"""
    mx = LAB.server()
    r = LAB.relay('one', default_destination_concurrency_limit='1')
    domain = LAB.domain(mx)
    for i in range(30):
        send(r, domain, 'u%d' % i)
    wait_until(lambda: mx.count == 30, 'all arrive')
    assert len({a for t in mx.transactions for a in t.rcpts}) == 30
    assert len(mx.sessions) <= 3, len(mx.sessions)
    wait_until(lambda: all(s.ended == 'quit' for s in mx.sessions), 'idle connections end with QUIT')


def concurrency():
    """83 never more connections than default_destination_concurrency_limit"""
    most = [0]

    def dot(session, line):
        most[0] = max(most[0], len(session.mx.open))
        return [Wait(0.05), '250 2.0.0 taken']
    mx = LAB.server(replies={'DOT': dot})
    r = LAB.relay('three', default_destination_concurrency_limit='3')
    domain = LAB.domain(mx)
    for i in range(40):
        send(r, domain, 'u%d' % i)
    wait_until(lambda: mx.count == 40, 'all arrive')
    assert 1 < most[0] <= 3, most


def one_message_each(thing, name):
    """Servers that end the connection after each message: all arrive, each once."""
    def case():
        mx = LAB.server(replies={'DOT': ['250 2.0.0 taken', thing] if thing is CLOSE else None,
                                 'MAIL': (lambda s, l: thing if s.transactions else None) if thing is not CLOSE else None})
        r = LAB.hasty()
        domain = LAB.domain(mx)
        ids = [send(r, domain, 'u%d' % i) for i in range(20)]
        wait_until(lambda: len(mx.taken) >= 20, 'all arrive')
        for qid in ids:
            outcome(r, qid, 'delivered')
        got = [a for t in mx.taken for a in t.rcpts]
        assert len(got) == 20 and len(set(got)) == 20, got
    case.__doc__ = name
    return case


def closed_while_idle():
    """81 the server closes an idle connection: the next message has a new one, and no deferral"""
    mx = LAB.server(replies={'DOT': ['250 2.0.0 taken', CLOSE]}, keywords=())
    r = LAB.plain()
    domain = LAB.domain(mx)
    for i in range(3):
        one(r, send(r, domain, 'u%d' % i), 'delivered')
    assert len(mx.sessions) == 3


def mail_421():
    """49 MAIL 421 on a fresh connection: the next server"""
    bad, good = LAB.server(replies={'MAIL': ['421 4.3.2 closing', CLOSE]}), LAB.server()
    r = LAB.plain()
    one(r, send(r, LAB.domain(bad, good)), 'delivered', addr=good.host, attempt=1)


def two_replies():
    """31, 77 two replies after the dot: the first counts, the next message is not credited with the other"""
    mx = LAB.server(replies={'DOT': b'250 2.0.0 taken\r\n451 no\r\n'})
    r = LAB.hasty()
    domain = LAB.domain(mx)
    ids = [send(r, domain, 'u%d' % i) for i in range(6)]
    for qid in ids:
        outcome(r, qid, 'delivered')
    assert len({a for t in mx.transactions for a in t.rcpts}) == 6


def garbage():
    """32 a server that talks nonsense: deferred"""
    mx = LAB.server(replies={'MAIL': b'\x00\xff\xfe what\r\n'})
    r = LAB.plain()
    one(r, send(r, LAB.domain(mx)), 'deferred')


def endless():
    """28 an EHLO reply without end: deferred, and bounded memory"""
    mx = LAB.server(replies={'EHLO': [b'250-' + b'x' * 400 + b'\r\n'] * 20000})
    r = LAB.plain()
    one(r, send(r, LAB.domain(mx)), 'deferred', stage='ehlo')
    wait_until(lambda: mx.sessions[0].ended, 'the relay hangs up')


def only_helo():
    """26 a server that knows only HELO"""
    mx = LAB.server(replies={'EHLO': '502 5.5.1 what?'})
    r = LAB.plain()
    one(r, send(r, LAB.domain(mx)), 'delivered')
    assert mx.sessions[0].lines[:2] == ['EHLO relay.example.net', 'HELO relay.example.net']


def main():
    global LAB
    LAB = Lab()
    c = Cases()
    try:
        for case in (
                preference, spread, refused, silent,
                failover('4 the first greets with 554: the next', '554 5.7.1 not you'),
                failover('4 the first greets with 521: the next', '521 5.3.2 no mail'),
                failover('5 the first greets with 421: the next', ['421 4.3.2 closing', CLOSE]),
                failover('5 the first greets with 450: the next', '450 4.3.2 later'),
                failover('25 the first closes without greeting: the next', CLOSE),
                failover('25 the first resets without greeting: the next', RESET),
                failover('24 the first talks another protocol: the next', b'SSH-2.0-OpenSSH_9.2\r\n'),
                failover('27 the first answers EHLO with 550: the next', None, EHLO='550 5.7.1 no'),
                failover('27 the first answers EHLO with 451: the next', None, EHLO='451 4.3.0 later'),
                failover('27 the first closes after EHLO: the next', None, EHLO=CLOSE),
                all_5xx, some_5xx, all_421, all_refused, address_limit, forbidden, no_ipv6, many_addresses,
                hang('22 the first never greets: the next', 'GREETING'),
                hang('22 the first never answers EHLO: the next', 'EHLO'),
                hang_later('MAIL is never answered: deferred, then delivered', 'MAIL', 'mail'),
                hang_later('RCPT is never answered: deferred, then delivered', 'RCPT', 'rcpt'),
                hang_later('67 DATA is never answered: deferred, then delivered', 'DATA', 'data'),
                hang_later('76 the dot is never answered: maybe a duplicate, the same bytes again', 'DOT',
                           'end_of_data', True),
                stops_reading, slow_bytes, tarpits,
                mixed, lone_dot, greylisted, rcpt_max, too_many_recipients, too_large, no_8bitmime, fidelity,
                dsn_passed_on, early_refusal, reset_in_content,
                lost_after_dot(CLOSE, '76 closed after the dot: maybe a duplicate, the same bytes again'),
                lost_after_dot(RESET, '76 reset after the dot: maybe a duplicate, the same bytes again'),
                after_dot('451 4.3.0 trouble', 'deferred'), after_dot('554 5.7.1 spam', 'failed'),
                after_dot(['421 4.3.2 closing', CLOSE], 'deferred'),
                reuse, concurrency,
                one_message_each(['421 4.7.0 enough', CLOSE], '80 421 to the second MAIL: all arrive, each once'),
                one_message_each(CLOSE, '81 closed after each message: all arrive, each once'),
                closed_while_idle, mail_421, two_replies, garbage, endless, only_helo):
            c.run(case)
    finally:
        LAB.close()
    c.end()


if __name__ == '__main__':
    main()
