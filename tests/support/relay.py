# SPDX-License-Identifier: Apache-2.0
"""One relay of one's own, for a system test.

    with Relay(relayhost='[127.0.0.1]:%d' % sink.port) as relay:
        relay.send('a@example.net', ['b@example.com'], b'Subject: x\r\n\r\nbody\r\n')
        wait_until(lambda: sink.count == 1, 'the message arrives')

It lives in a folder of its own under /tmp, on free ports of loopback, and is gone when
the block ends. The programs come from $EKIDEN_STAGE (see tests/support/stage), or from
the build tree.
"""
import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

# A slow, shared machine, perhaps under sanitizers: deadlines are generous everywhere.
PATIENCE = float(os.environ.get('EKIDEN_PATIENCE', '60'))


def ekiden_binary():
    stage = os.environ.get('EKIDEN_STAGE')
    if stage:
        return os.path.join(stage, 'usr/local/bin/ekiden')
    return os.path.join(TOP, os.environ.get('EKIDEN_BUILD', 'build'), 'bin/ekiden')


_given = set()


def free_port(host='127.0.0.1'):
    """A port that nobody listens on, and that this process has not given away before."""
    while True:
        s = socket.socket()
        s.bind((host, 0))
        port = s.getsockname()[1]
        s.close()
        # The range of outgoing connections is where others' connections come from: step out of it.
        port = 10240 + (port * 7919 + os.getpid()) % 20000
        if port in _given:
            continue
        s = socket.socket()
        try:
            s.bind((host, port))
        except OSError:
            continue
        finally:
            s.close()
        _given.add(port)
        return port


def wait_until(what, why, patience=None, every=0.02):
    """Waits for what() to be true (returns its value); AssertionError with why when it takes too long."""
    end = time.monotonic() + (patience or PATIENCE)
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError('waited in vain: ' + why)
        time.sleep(every)


class Relay:
    def __init__(self, master_cf='', listeners=1, start=True, keep=False, prefix='ekiden-test-',
                 listen_options='', **main_cf):
        self.dir = tempfile.mkdtemp(prefix=prefix, dir='/tmp')
        os.chmod(self.dir, 0o755)
        self.keep = keep
        self.etc = os.path.join(self.dir, 'etc')
        self.queue = os.path.join(self.dir, 'spool')
        self.data = os.path.join(self.dir, 'lib')
        self.log = os.path.join(self.dir, 'mail.log')
        for d in (self.etc, self.queue, self.data):
            os.mkdir(d, 0o755)
        self.ports = [free_port() for _ in range(listeners)]
        self.port = self.ports[0]
        self.settings = {
            'queue_directory': self.queue,
            'data_directory': self.data,
            'maillog_file': self.log,
            'myhostname': 'relay.example.net',
            'mynetworks': '127.0.0.0/8',
            'inet_protocols': 'ipv4',
            'smtp_forbidden_destinations': '',
            'dns_trust_anchor': '',
            'smtp_tls_security_level': 'none',
            'smtpd_processes': '1',
            'cleanup_processes': '1',
            'smtp_processes': '1',
            'smtpd_client_connection_count_limit': '0',
        }
        self.settings.update({k: str(v) for k, v in main_cf.items()})
        self.listen_options = listen_options
        self.master_cf = master_cf
        self.started = False
        self.write_conf()
        if start:
            self.start()

    def write_conf(self):
        with open(os.path.join(self.etc, 'main.cf'), 'w') as f:
            f.writelines('%s = %s\n' % kv for kv in self.settings.items())
        with open(os.path.join(self.etc, 'master.cf'), 'w') as f:
            for port in self.ports:
                f.write('127.0.0.1:%d inet n - n - - smtpd %s\n' % (port, self.listen_options))
            f.write(self.master_cf)

    def set(self, **main_cf):
        self.settings.update({k: str(v) for k, v in main_cf.items()})
        self.write_conf()

    def ctl(self, *args, check=True, timeout=None, **kw):
        r = subprocess.run([ekiden_binary(), '-c', self.etc, *args], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           timeout=timeout or PATIENCE * 2, **kw)
        if check and r.returncode != 0:
            raise AssertionError('ekiden %s: exit %d\n%s%s\n%s' % (
                ' '.join(args), r.returncode, r.stdout, r.stderr, self.tail()))
        return r

    def json(self, *args):
        """The JSON lines that a reading verb prints."""
        return [json.loads(line) for line in self.ctl(*args, '--json').stdout.splitlines() if line]

    def events(self, *args):
        return self.json('log', *args)

    def start(self):
        self.ctl('start')
        self.started = True

    def stop(self, check=True):
        self.started = False
        return self.ctl('stop', check=check)

    def reload(self):
        self.ctl('reload')

    def pids(self):
        """{'qmgr-0': pid, ...} of the running programs, master included."""
        found = {}
        for row in self.json('status'):
            if 'pid' in row and row['pid'] and 'role' in row:
                found['%s-%s' % (row['role'], row.get('index', 0))] = row['pid']
        return found

    def queued(self):
        """Recipients that are not final, by looking at the queue files."""
        return sum(len(m.get('recipients', [])) for m in self.json('queue', 'list'))

    def drained(self, patience=None):
        wait_until(lambda: self.queued() == 0, 'the queue runs empty\n' + self.tail(), patience, 0.1)

    def tail(self, n=30):
        try:
            with open(self.log, errors='replace') as f:
                return '--- log\n' + ''.join(f.readlines()[-n:])
        except OSError:
            return '(no log)'

    def smtp(self, port=None, timeout=None, **kw):
        c = smtplib.SMTP(timeout=timeout or PATIENCE, **kw)
        c.connect('127.0.0.1', port or self.port)
        return c

    def send(self, sender, rcpts, message, mail_options=(), rcpt_options=()):
        """Returns the queue id."""
        with self.smtp() as c:
            c.ehlo('client.example.net')
            code, text = c.mail(sender, list(mail_options))
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
            for r in rcpts:
                code, text = c.rcpt(r, list(rcpt_options))
                if code != 250:
                    raise smtplib.SMTPResponseException(code, text)
            code, text = c.data(message)
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)
            return text.decode().rsplit(' ', 1)[-1]

    def close(self):
        if self.started:
            r = self.stop(check=False)
            if r.returncode != 0:
                print('# stop failed: %s%s\n%s' % (r.stdout, r.stderr, self.tail()), flush=True)
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print('# ' + self.tail(60).replace('\n', '\n# '), flush=True)
        self.close()


class Cases:
    """Runs functions as cases: prints "ok NAME" or "not ok NAME: why"."""

    def __init__(self):
        self.failed = 0
        self.only = sys.argv[1:] or None

    def run(self, function, *args, name=None):
        name = name or (function.__doc__ or function.__name__).strip().split('\n')[0]
        if self.only and not any(re.search(o, name) or o == function.__name__ for o in self.only):
            return
        began = time.monotonic()
        try:
            function(*args)
        except Exception as e:  # the next case runs all the same
            import traceback
            traceback.print_exc(file=sys.stdout)
            print('not ok %s: %s' % (name, str(e).split('\n')[0] or type(e).__name__), flush=True)
            self.failed += 1
        else:
            print('ok %s (%.1f s)' % (name, time.monotonic() - began), flush=True)

    def skip(self, name, why):
        print('ok %s # skip %s' % (name, why), flush=True)

    def end(self):
        sys.exit(1 if self.failed else 0)
