#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""STARTTLS towards servers with every kind of certificate, at every level."""
import os
import ssl
import sys
import threading
import warnings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from certs import Certs  # noqa: E402
from fakedns import FakeDns  # noqa: E402
from fakemx import FakeMX, context  # noqa: E402
from relay import Cases, Relay, wait_until  # noqa: E402

warnings.simplefilter('ignore', DeprecationWarning)  # TLS 1.1 is meant
MESSAGE = b'Subject: test\r\nFrom: a@s.lab\r\n\r\nbody\r\n'
LEVELS = ('may', 'encrypt', 'verify', 'secure')

# What each level makes of a server: t: over TLS; c: in clear; d: deferred, not a byte of mail sent.
ALL, TRUSTED_ONLY, NO_TLS = 'tttt', 'ttdd', 'cddd'


class Peer:
    """A server under a name of its own, and the domain that leads there."""

    def __init__(self, name, fate, host=None, trust=None, **what):
        self.name, self.fate, self.host = name, fate, host or 'mx.%s.lab' % name
        self.trust = trust or ('verified' if fate == ALL else 'untrusted')
        self.mx = FakeMX(**what)
        self.domain = name + '.test'
        self.ids = {}


def peers(certs):
    def cert(name, **kw):
        kw.setdefault('san', 'DNS:mx.%s.lab' % name)
        return certs.leaf(name, **kw)

    v = ssl.TLSVersion
    yield Peer('good', ALL, cert=cert('good'))
    yield Peer('none', NO_TLS)
    yield Peer('expired', TRUSTED_ONLY, cert=cert('expired', begin='20240101000000Z', end='20240201000000Z'))
    yield Peer('future', TRUSTED_ONLY, cert=cert('future', begin='20400101000000Z', end='20440101000000Z'))
    yield Peer('selfsigned', TRUSTED_ONLY, cert=cert('selfsigned', by=None))
    yield Peer('otherroot', TRUSTED_ONLY, cert=cert('otherroot', by='other'))
    yield Peer('wrongname', TRUSTED_ONLY, cert=cert('wrongname', san='DNS:mx.elsewhere.lab'))
    yield Peer('domainonly', TRUSTED_ONLY, cert=cert('domainonly', san='DNS:domainonly.lab'))
    yield Peer('onlycn', TRUSTED_ONLY, cert=cert('onlycn', san='', cn='mx.onlycn.lab'))
    yield Peer('emailsan', TRUSTED_ONLY, cert=cert('emailsan', san='email:a@mx.emailsan.lab', cn='mx.emailsan.lab'))
    yield Peer('wildcard', ALL, cert=cert('wildcard', san='DNS:*.wildcard.lab'))
    yield Peer('wildself', TRUSTED_ONLY, host='wildself.lab', cert=cert('wildself', san='DNS:*.wildself.lab'))
    yield Peer('wilddeep', TRUSTED_ONLY, host='a.b.wilddeep.lab', cert=cert('wilddeep', san='DNS:*.wilddeep.lab'))
    yield Peer('wildpart', TRUSTED_ONLY, cert=cert('wildpart', san='DNS:m*.wildpart.lab'))
    yield Peer('wildlab', TRUSTED_ONLY, host='wildlab.lab', cert=cert('wildlab', san='DNS:*'))
    yield Peer('manynames', ALL, cert=cert('manynames', san=','.join(
        ['DNS:n%d.lab' % i for i in range(100)] + ['DNS:MX.ManyNames.Lab'])))
    yield Peer('clientonly', TRUSTED_ONLY, cert=cert('clientonly', usage='clientAuth'))
    yield Peer('bothuses', ALL, cert=cert('bothuses', usage='clientAuth,serverAuth'))
    yield Peer('chain', ALL, cert=cert('chain', by='between', chain=['between']))
    yield Peer('nochain', TRUSTED_ONLY, cert=cert('nochain', by='between'))
    yield Peer('longchain', ALL, cert=cert('longchain', by='between', chain=['between'] + ['root', 'other'] * 10))
    yield Peer('rsa2048', ALL, cert=cert('rsa2048', key=2048))
    yield Peer('rsa4096', ALL, cert=cert('rsa4096', key=4096))
    # A short key is still better than clear text, and not enough where proof is asked for.
    yield Peer('rsa1024', TRUSTED_ONLY, trust='verified', cert=cert('rsa1024', key=1024))
    yield Peer('tls12', ALL, cert=cert('tls12'), tls={'maximum_version': v.TLSv1_2})
    yield Peer('tls13', ALL, cert=cert('tls13'), tls={'minimum_version': v.TLSv1_3})
    yield Peer('tls11', NO_TLS, cert=cert('tls11'), tls={'minimum_version': v.TLSv1_1, 'maximum_version': v.TLSv1_1})
    yield Peer('cbc', ALL, cert=cert('cbc', key=2048),
               tls={'maximum_version': v.TLSv1_2, 'ciphers': 'AES128-SHA:@SECLEVEL=0'})
    yield Peer('nocipher', NO_TLS, cert=cert('nocipher', key=2048),
               tls={'maximum_version': v.TLSv1_2, 'ciphers': 'NULL-SHA256:@SECLEVEL=0'})
    yield Peer('wantscert', ALL, cert=cert('wantscert'), tls={'verify_mode': ssl.CERT_OPTIONAL})
    yield Peer('reset', NO_TLS, cert=cert('reset'), tls='reset')
    yield Peer('refused', NO_TLS, cert=cert('refused'), replies={'STARTTLS': '454 4.7.0 not now'})
    yield Peer('notoffered', NO_TLS, cert=cert('notoffered'), replies={
        'EHLO': lambda s, l: '250-mx\r\n250 PIPELINING'})
    yield Peer('injected', 'dddd', cert=cert('injected'), replies={
        'STARTTLS': b'220 go\r\n250-mx\r\n250 PIPELINING\r\n250 injected\r\n'})
    yield Peer('byaddress', ALL, host='127.0.0.1', cert=cert('byaddress', san='IP:127.0.0.1'))
    yield Peer('otheraddress', TRUSTED_ONLY, host='127.0.0.1', cert=cert('otheraddress', san='IP:127.0.0.2'))
    yield Peer('addressasname', TRUSTED_ONLY, host='127.0.0.1', cert=cert('addressasname', san='DNS:127.0.0.1'))


class Lab:
    def __init__(self):
        self.certs = Certs()
        self.dns = FakeDns({'*': {'A': ['127.0.0.1']}})
        self.peers = list(peers(self.certs))
        self.special = [
            Peer('resumed', ALL, cert=self.certs.leaf('resumed', san='DNS:mx.resumed.lab')),
            Peer('stalled', 'c', cert=self.certs.leaf('stalled', san='DNS:mx.stalled.lab'), tls='stall'),
        ]
        self.relays = {level: self.relay(smtp_tls_security_level=level) for level in LEVELS}
        threads = [threading.Thread(target=r.start) for r in self.relays.values()]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for level, r in self.relays.items():
            assert r.started, level
            for p in self.peers:
                p.ids[level] = r.send('a@s.lab', ['%s@%s' % (level, p.domain)], MESSAGE)

    def relay(self, **settings):
        r = Relay(start=False, dns_servers=self.dns.server, smtp_tls_CAfile=self.certs.root, **settings)
        maps = os.path.join(r.etc, 'transport')
        with open(maps, 'w') as f:
            f.writelines('%s smtp:[%s]:%d\n' % (p.domain, p.host, p.mx.port) for p in self.peers + self.special)
        r.set(transport_maps='texthash:' + maps)
        return r

    def close(self):
        for r in self.relays.values():
            r.close()
        for p in self.peers + self.special:
            p.mx.close()
        self.certs.close()


LAB = None


def outcome(relay, qid):
    return wait_until(lambda: [e for e in relay.events() if e['event'] == 'attempt' and e.get('qid') == qid],
                      'an outcome', every=0.1)[0]


def case(peer, level, fate):
    relay = LAB.relays[level]
    got = outcome(relay, peer.ids[level])
    mine = [t for t in peer.mx.transactions if t.rcpts == ['%s@%s' % (level, peer.domain)]]
    if fate == 'd':
        assert got['result'] == 'deferred', got
        assert not mine and got['stage'] == 'starttls', got
        return
    assert got['result'] == 'delivered' and len(mine) == 1, got
    if fate == 'c':
        assert mine[0].tls is None and got['tls'] == '', got
        return
    assert mine[0].tls and got['tls'].startswith(mine[0].tls), got
    trust = [e['tls_trust'] for e in relay.events() if e['event'] == 'connection' and e['connection'] == got['connection']]
    assert trust == [peer.trust], trust


def resumption():
    """47 the second connection resumes the session; one whose tickets are void starts anew"""
    peer = LAB.special[0]
    relay = LAB.relay(smtp_tls_security_level='secure', smtp_connection_reuse_count_limit='1')
    try:
        relay.start()
        for i in range(3):
            if i == 2:
                # Another process behind the same name: it knows none of these tickets.
                peer.mx.context = context((LAB.certs.path('resumed.chain'), LAB.certs.path('resumed.key')), {})
            got = outcome(relay, relay.send('a@s.lab', ['r%d@%s' % (i, peer.domain)], MESSAGE))
            assert got['result'] == 'delivered', got
        assert [s.resumed for s in peer.mx.sessions] == [False, True, False]
        trust = [e['tls_trust'] for e in relay.events() if e['event'] == 'connection']
        assert trust == ['verified'] * 3, trust
    finally:
        relay.close()


def stalled():
    """45 the handshake stalls, level may: in clear on a new connection, and at once the next time"""
    peer = LAB.special[1]
    relay = LAB.relay(smtp_tls_security_level='may', smtp_starttls_timeout='3s', smtp_connection_cache_time_limit='0s')
    try:
        relay.start()
        for i in range(2):
            got = outcome(relay, relay.send('a@s.lab', ['r%d@%s' % (i, peer.domain)], MESSAGE))
            assert got['result'] == 'delivered' and got['tls'] == '', got
        hellos = [s.lines[1] for s in peer.mx.sessions if len(s.lines) > 1]
        assert hellos[0] == 'STARTTLS' and hellos[1:] and 'STARTTLS' not in hellos[1:], hellos
    finally:
        relay.close()


def forgotten():
    """38 what was offered in clear is forgotten; EHLO comes again, and the server's name was told"""
    good = next(p for p in LAB.peers if p.name == 'good')
    lines = [s.lines for s in good.mx.sessions if s.tls][0]
    assert lines[:3] == ['EHLO relay.example.net', 'STARTTLS', 'EHLO relay.example.net'], lines


def main():
    global LAB
    c = Cases()
    LAB = Lab()
    try:
        for peer in LAB.peers:
            for level, fate in zip(LEVELS, peer.fate):
                words = {'t': 'over TLS', 'c': 'in clear', 'd': 'deferred'}
                c.run(case, peer, level, fate, name='39, 44 %s, %s: %s' % (peer.name, level, words[fate]))
        for one in (resumption, stalled, forgotten):
            c.run(one)
    finally:
        LAB.close()
    c.end()


if __name__ == '__main__':
    main()
