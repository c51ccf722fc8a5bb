# SPDX-License-Identifier: Apache-2.0
"""A mail server for tests that behaves as it is told, also badly.

    with FakeMX(replies={'RCPT': '550 5.1.1 unknown'}) as mx:
        ... mx.port ...; mx.transactions; mx.sessions[0].lines

replies: what is said instead of the usual. Keys are GREETING, EHLO, HELO, STARTTLS, MAIL, RCPT,
DATA, DOT, RSET, QUIT; a value is one thing, a list of things, or a function of (session, line)
that returns either; None means the usual. A thing is
    '250 text'     a reply (a line end is added; several lines have \\r\\n between them)
    b'...'         these very bytes
    Wait(seconds)  nothing for a while
    Slowly(reply)  one byte a segment
    CLOSE, RESET   an orderly end; a reset
    SILENCE        never a word again, until the client gives up
cert: files (chain, key) from certs.py: STARTTLS is offered. tls: settings of the context, e.g.
{'maximum_version': ssl.TLSVersion.TLSv1_2}; 'stall' never answers the handshake, 'reset' resets.
Every connection has its own thread. What came is in sessions (connections, in order) and
transactions (those with a final dot, whatever it earned).
"""
import socket
import ssl
import struct
import threading
import time


class Wait:
    def __init__(self, seconds):
        self.seconds = seconds


class Slowly:
    def __init__(self, reply, pause=0.002):
        self.reply, self.pause = reply, pause


CLOSE, RESET, SILENCE = 'close!', 'reset!', 'silence!'


class Ended(Exception):
    pass


class Transaction:
    def __init__(self, session, sender, rcpts, content):
        self.session, self.sender, self.rcpts, self.content = session, sender, rcpts, content
        self.tls = session.tls
        self.reply = None

    @property
    def body(self):
        return self.content.split(b'\r\n\r\n', 1)[-1]

    def field(self, name):
        for line in self.content.split(b'\r\n\r\n', 1)[0].split(b'\r\n'):
            if line.lower().startswith(name.lower().encode() + b':'):
                return line.split(b':', 1)[1].strip().decode()
        return None


class Session:
    def __init__(self, mx, sock, peer):
        self.mx, self.sock, self.peer = mx, sock, peer
        self.lines = []       # commands
        self.transactions = []
        self.tls = None       # 'TLSv1.3' ...
        self.resumed = False
        self.server_name = None
        self.ended = None     # how: 'quit', 'eof', 'reset', 'us'
        self.pending = b''
        self.sender, self.rcpts = None, []
        self.answering = None  # the transaction whose dot is being answered

    # ---- wire ----

    def read_some(self):
        try:
            data = self.sock.recv(65536)
        except (ConnectionError, ssl.SSLError, OSError):
            self.ended = self.ended or 'reset'
            raise Ended from None
        if not data:
            self.ended = self.ended or 'eof'
            raise Ended
        return data

    def read_line(self):
        while b'\r\n' not in self.pending:
            self.pending += self.read_some()
        line, self.pending = self.pending.split(b'\r\n', 1)
        return line

    def read_content(self):
        while True:
            if self.pending.startswith(b'.\r\n'):
                self.pending = self.pending[3:]
                return b''
            at = self.pending.find(b'\r\n.\r\n')
            if at >= 0:
                content, self.pending = self.pending[:at + 2], self.pending[at + 5:]
                return b'\r\n'.join(l[1:] if l.startswith(b'.') else l for l in content.split(b'\r\n'))
            self.pending += self.read_some()

    def write(self, data):
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError, OSError):
            self.ended = self.ended or 'reset'
            raise Ended from None

    def reset(self):
        raw = self.sock
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.ended = self.ended or 'us'
        if isinstance(raw, ssl.SSLSocket):
            raw = socket.socket(fileno=raw.detach())
            self.sock = raw
        raw.close()
        raise Ended

    def say(self, things):
        """The last reply's code, or None."""
        code = None
        for thing in things if isinstance(things, list) else [things]:
            if self.answering is not None and self.answering.reply is None and \
                    isinstance(thing, (str, bytes)) and thing[:1].isdigit():
                self.answering.reply = thing if isinstance(thing, str) else thing.decode('latin-1')
            if isinstance(thing, Wait):
                self.mx.stopping.wait(thing.seconds)
            elif isinstance(thing, Slowly):
                for byte in (thing.reply + '\r\n').encode('latin-1'):
                    self.write(bytes([byte]))
                    time.sleep(thing.pause)
                code = thing.reply[:3]
            elif isinstance(thing, bytes):
                self.write(thing)
                code = thing[:3].decode('latin-1')
            elif thing == CLOSE:
                self.ended = self.ended or 'us'
                raise Ended
            elif thing == RESET:
                self.reset()
            elif thing == SILENCE:
                self.mx.parked.append(self)
                while not self.mx.stopping.is_set():
                    self.read_some()
            else:
                self.write((thing + '\r\n').encode('latin-1'))
                code = thing[:3]
        return code

    def answer(self, key, line, usual):
        told = self.mx.replies.get(key)
        if callable(told):
            told = told(self, line)
        return self.say(usual if told is None else told)

    # ---- dialogue ----

    def offers(self):
        words = list(self.mx.keywords)
        if self.mx.context is not None and self.tls is None:
            words.append('STARTTLS')
        lines = ['mx.example'] + words
        return '\r\n'.join('250%s%s' % ('-' if i + 1 < len(lines) else ' ', l)
                           for i, l in enumerate(lines))

    def start_tls(self):
        if self.mx.tls_trouble == 'stall':
            self.mx.parked.append(self)
            while not self.mx.stopping.is_set():
                self.read_some()
        if self.mx.tls_trouble == 'reset':
            self.sock.recv(1)
            self.reset()
        try:
            self.sock = self.mx.context.wrap_socket(self.sock, server_side=True)
        except (ssl.SSLError, OSError) as e:
            self.mx.tls_errors.append(str(e))
            self.ended = 'reset'
            raise Ended from None
        self.tls = self.sock.version()
        self.resumed = self.sock.session_reused
        self.pending = b''

    def take_data(self):
        transaction = Transaction(self, self.sender, self.rcpts, self.read_content())
        self.sender, self.rcpts = None, []
        self.transactions.append(transaction)
        with self.mx.lock:
            self.mx.transactions.append(transaction)
        self.answering = transaction
        self.answer('DOT', b'', '250 2.0.0 taken')
        self.answering = None

    def talk(self):
        self.answer('GREETING', b'', '220 mx.example ESMTP')
        while True:
            line = self.read_line()
            self.lines.append(line.decode('utf-8', 'replace'))
            verb = line.split(b' ')[0].split(b':')[0].upper().decode('latin-1')
            if verb in ('EHLO', 'HELO'):
                self.answer(verb, line, self.offers() if verb == 'EHLO' else '250 mx.example')
            elif verb == 'STARTTLS':
                if self.answer(verb, line, '220 2.0.0 go') == '220' and self.mx.context is not None:
                    self.start_tls()
            elif verb == 'MAIL':
                if self.answer(verb, line, '250 2.1.0 ok')[:1] == '2':
                    self.sender, self.rcpts = address(line), []
            elif verb == 'RCPT':
                if self.answer(verb, line, '250 2.1.5 ok')[:1] == '2':
                    self.rcpts.append(address(line))
            elif verb == 'DATA':
                usual = '354 go' if self.rcpts else '554 5.5.1 no valid recipients'
                if self.answer(verb, line, usual) == '354':
                    self.take_data()
            elif verb == 'RSET':
                self.sender, self.rcpts = None, []
                self.answer(verb, line, '250 2.0.0 ok')
            elif verb == 'QUIT':
                self.ended = 'quit'
                self.answer(verb, line, '221 2.0.0 bye')
                return
            else:
                self.say('500 5.5.1 what?')

    def run(self):
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.talk()
        except (Ended, OSError):
            pass
        finally:
            try:
                self.sock.close()
            except OSError:
                pass
            with self.mx.lock:
                self.mx.open.discard(self)


def address(line):
    return line[line.index(b'<') + 1:line.rindex(b'>')].decode('utf-8', 'replace')


def context(cert, tls):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Weak things too: it is the client that is tested.
    c.set_ciphers(tls.pop('ciphers', 'DEFAULT:@SECLEVEL=0'))
    c.load_cert_chain(*cert)
    for name, value in tls.items():
        setattr(c, name, value)
    return c


class FakeMX:
    def __init__(self, host='127.0.0.1', port=0, replies=None, cert=None, tls=None,
                 keywords=('PIPELINING', '8BITMIME', 'SIZE 50000000', 'DSN')):
        self.replies = replies or {}
        self.keywords = keywords
        self.tls_trouble = tls if isinstance(tls, str) else None
        self.context = context(cert, dict(tls or {}) if self.tls_trouble is None else {}) if cert else None
        self.sessions, self.transactions, self.tls_errors = [], [], []
        self.open, self.parked = set(), []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.listener = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(200)
        self.host, self.port = host, self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while not self.stopping.is_set():
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            session = Session(self, sock, peer[0])
            with self.lock:
                self.sessions.append(session)
                self.open.add(session)
            threading.Thread(target=session.run, daemon=True).start()

    @property
    def count(self):
        return len(self.transactions)

    @property
    def taken(self):
        """Transactions that were answered 2yz."""
        with self.lock:
            return [t for t in self.transactions if t.reply and t.reply[0] == '2']

    def close(self):
        self.stopping.set()
        for s in (self.listener, *[x.sock for x in list(self.open)]):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


class BlackHole:
    """A port at which connections hang: its backlog is full, further SYNs are dropped."""

    def __init__(self, host='127.0.0.1', port=0):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(0)
        self.host, self.port = self.listener.getsockname()
        self.fillers = []
        for _ in range(16):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((host, self.port))
            self.fillers.append(s)
        # Full when one of them does not get through.
        probe = socket.socket()
        probe.settimeout(0.5)
        try:
            probe.connect((host, self.port))
            raise RuntimeError('the backlog does not fill')
        except (TimeoutError, BlockingIOError):
            pass
        finally:
            probe.close()

    def close(self):
        for s in (*self.fillers, self.listener):
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()
