# SPDX-License-Identifier: Apache-2.0
"""A receiver that takes everything and remembers it, for tests that count.

Each message is kept as (recipients, sha256 of its content behind the fields that a relay puts in
front, value of its X-Test-Id field). The reply to the final dot is sent only after the record is
there, so what a relay believes to be delivered is in the ledger.
"""
import asyncio
import hashlib
import re
import threading
from collections import Counter


class Received:
    __slots__ = ('sender', 'rcpts', 'content', 'id')

    def __init__(self, sender, rcpts, content, ident):
        self.sender, self.rcpts, self.content, self.id = sender, rcpts, content, ident


class Sink:
    """Listens on host:port from the moment it is made. keep: also keep whole contents."""

    def __init__(self, host='127.0.0.1', port=0, keep=True, refuse=None, delay=0.0, dot_reply=None):
        self.keep = keep
        self.refuse = refuse or (lambda rcpt: None)  # a reply text for RCPT, or None
        self.dot_reply = dot_reply or (lambda received: '250 2.0.0 taken')
        self.delay = delay
        self.messages = []
        self.ledger = Counter()  # (id, recipient) -> times
        self.count = 0
        self.connections = 0
        self._ready = threading.Event()
        self._loop = None
        self._host, self.port = host, port
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(30)

    def _run(self):
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

        async def begin():
            self._server = await asyncio.start_server(
                self._talk, self._host, self.port, limit=1 << 26, backlog=1000)
            self.port = self._server.sockets[0].getsockname()[1]
            self._ready.set()
        self._loop.run_until_complete(begin())
        self._loop.run_forever()

    def close(self):
        def end():
            self._server.close()
            for t in asyncio.all_tasks(self._loop):
                t.cancel()
            self._loop.call_later(0.05, self._loop.stop)
        self._loop.call_soon_threadsafe(end)
        self._thread.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    async def _talk(self, r, w):
        self.connections += 1
        sender, rcpts = None, []
        try:
            w.write(b'220 sink.example.net ESMTP\r\n')
            while True:
                line = await r.readline()
                if not line or w.is_closing():
                    return
                verb = line[:4].upper()
                if verb == b'EHLO':
                    w.write(b'250-sink.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n'
                            b'250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n')
                elif verb == b'HELO':
                    w.write(b'250 sink.example.net\r\n')
                elif verb == b'MAIL':
                    sender, rcpts = _path(line), []
                    w.write(b'250 2.1.0 ok\r\n')
                elif verb == b'RCPT':
                    rcpt = _path(line)
                    no = self.refuse(rcpt)
                    if no:
                        w.write(no.encode() + b'\r\n')
                    else:
                        rcpts.append(rcpt)
                        w.write(b'250 2.1.5 ok\r\n')
                elif verb == b'DATA':
                    if not rcpts:
                        w.write(b'554 5.5.1 no recipients\r\n')
                        continue
                    w.write(b'354 go\r\n')
                    content = await _content(r)
                    if content is None:
                        return
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    got = self._record(sender, rcpts, content)
                    w.write(self.dot_reply(got).encode() + b'\r\n')
                    sender, rcpts = None, []
                elif verb == b'RSET':
                    sender, rcpts = None, []
                    w.write(b'250 2.0.0 ok\r\n')
                elif verb == b'QUIT':
                    w.write(b'221 2.0.0 bye\r\n')
                    return
                else:
                    w.write(b'502 5.5.1 no\r\n')
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            w.close()

    def _record(self, sender, rcpts, content):
        found = re.search(rb'^X-Test-Id: *(\S+)', content, re.M | re.I)
        ident = found.group(1).decode() if found else hashlib.sha256(content).hexdigest()
        got = Received(sender, list(rcpts), content if self.keep else None, ident)
        if self.keep:
            self.messages.append(got)
        for rcpt in rcpts:
            self.ledger[(ident, rcpt)] += 1
        self.count += 1
        return got


def _path(line):
    found = re.search(rb'<(.*?)>', line)
    return found.group(1).decode('utf-8', 'replace') if found else ''


async def _content(r):
    """Un-dot-stuffed content up to the lone dot."""
    out = []
    while True:
        line = await r.readline()
        if not line.endswith(b'\n'):
            return None
        if line == b'.\r\n':
            return b''.join(out)
        out.append(line[1:] if line.startswith(b'.') else line)
