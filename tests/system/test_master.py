#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""master alone: its children are tests/support/stub_program, which keep the rules and do no work."""
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import TOP, Cases, free_port, wait_until  # noqa: E402

BUILD = os.path.join(TOP, os.environ.get('EKIDEN_BUILD', 'build'))
PROGRAMS = ['smtpd', 'cleanup', 'qmgr', 'resolve', 'smtp-out', 'bounce']
STOP, RELOAD, STATUS = 0, 1, 2
HELLO, CTL_ASK, CTL_LINE, CTL_DONE = 1, 80, 81, 82
ROLE_CTL = 7


def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        with open('/proc/%d/stat' % pid) as f:
            return f.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


class Master:
    """A master with stub programs, in folders of its own."""

    def __init__(self, start=True, user=None, master_cf=None, **main_cf):
        self.dir = tempfile.mkdtemp(prefix='ekiden-master-', dir='/tmp')
        os.chmod(self.dir, 0o755)
        self.user = user
        self.etc, self.queue, self.data, self.libexec = (
            os.path.join(self.dir, d) for d in ('etc', 'spool', 'lib', 'libexec'))
        for d in (self.etc, self.queue, self.data, self.libexec):
            os.mkdir(d, 0o755)
            if user is not None:
                os.chown(d, user, user)
        shutil.copy(os.path.join(BUILD, 'libexec/master'), self.libexec)
        for p in PROGRAMS:
            shutil.copy(os.path.join(BUILD, 'tests/support/stub_program'), os.path.join(self.libexec, p))
        for p in os.listdir(self.libexec):
            os.chmod(os.path.join(self.libexec, p), 0o755)  # also when umask was 077 for the build
        self.log = os.path.join(self.data, 'ekiden.log')
        self.port = free_port()
        self.master_cf = master_cf or '127.0.0.1:%d inet n - n - - smtpd\n' % self.port
        self.main_cf = {'queue_directory': self.queue, 'data_directory': self.data,
                        'myhostname': 'one.example.net', 'inet_protocols': 'ipv4',
                        'dns_trust_anchor': '', 'smtp_tls_CAfile': '',
                        'smtpd_processes': 2, 'cleanup_processes': 2, 'smtp_processes': 1, **main_cf}
        self.process = None
        self.said = ''
        if start:
            assert self.start() == 'READY\n', self.said + self.tail()

    def write_conf(self):
        with open(os.path.join(self.etc, 'main.cf'), 'w') as f:
            f.writelines('%s = %s\n' % kv for kv in self.main_cf.items())
        with open(os.path.join(self.etc, 'master.cf'), 'w') as f:
            f.write(self.master_cf)

    def start(self):
        """What master said to who waits for it."""
        self.write_conf()
        r, w = os.pipe()
        env = dict(os.environ, EKIDEN_READY_FD=str(w))

        def become():
            if self.user is not None:
                os.setgroups([])
                os.setresgid(self.user, self.user, self.user)
                os.setresuid(self.user, self.user, self.user)

        self.process = subprocess.Popen(
            [os.path.join(self.libexec, 'master'), '-c', self.etc, '-b'], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.dir, 'stderr'), 'a'),
            env=env, pass_fds=[w], preexec_fn=become, cwd='/', start_new_session=True)
        os.close(w)
        with os.fdopen(r) as f:
            self.said = f.readline()
        return self.said

    def tail(self):
        text = ''
        for name in (os.path.join(self.dir, 'stderr'), self.log):
            try:
                with open(name) as f:
                    text += '--- %s\n%s' % (name, ''.join(f.readlines()[-30:]))
            except OSError:
                pass
        return text

    def ask(self, verb, patience=60):
        """([lines], exit code, text)"""
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(patience)
        s.connect(os.path.join(self.queue, 'run/master.sock'))
        with s, s.makefile('rwb') as f:
            hello = struct.pack('>BI', ROLE_CTL, 0)
            ask = struct.pack('>BIII', verb, 0, 0, 0)
            f.write(struct.pack('>IHBB', len(hello), HELLO, 1, 0) + hello)
            f.write(struct.pack('>IHBB', len(ask), CTL_ASK, 1, 0) + ask)
            f.flush()
            lines = []
            while True:
                head = f.read(8)
                if len(head) < 8:
                    return lines, None, 'closed'
                n, kind, _, _ = struct.unpack('>IHBB', head)
                body = f.read(n)
                if kind == CTL_LINE:
                    lines.append(json.loads(body[4:].decode()))
                elif kind == CTL_DONE:
                    return lines, body[0], body[13:].decode()

    def status(self):
        lines, code, _ = self.ask(STATUS)
        assert code == 0
        return lines

    def kids(self):
        return {'%s-%d' % (c['role'], c['index']): c for c in self.status() if c['role'] != 'master'}

    def pids(self):
        return {k: c['pid'] for k, c in self.kids().items()}

    def all_up(self):
        rows = self.status()
        return rows[0]['not_up'] == 0 and rows

    def stop(self):
        lines, code, text = self.ask(STOP)
        assert code == 0, (code, text)
        self.process.wait(20)
        return self.process.returncode

    def banner(self, port=None, address='127.0.0.1'):
        with socket.create_connection((address, port or self.port), 10) as s:
            return s.makefile().readline()

    def close(self):
        if self.process is not None and self.process.poll() is None:
            kids = children(self.process.pid)
            self.process.kill()
            self.process.wait()
            wait_until(lambda: not any(alive(p) for p in kids), 'the children of a killed master end')
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print('# ' + self.tail().replace('\n', '\n# '), flush=True)
        self.close()


def children(pid):
    try:
        with open('/proc/%d/task/%d/children' % (pid, pid)) as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def starts_and_stops():
    """starts, answers, stops in order, leaves nothing behind"""
    with Master() as m:
        assert m.banner().startswith('220 stub')
        rows = m.status()
        assert rows[0]['role'] == 'master' and rows[0]['state'] == 'running', rows[0]
        assert rows[0]['not_up'] == 0 and rows[0]['programs'] == 8, rows[0]
        assert rows[0]['listeners'][0]['port'] == m.port, rows[0]
        pids = m.pids()
        assert sorted(pids) == ['bounce-0', 'cleanup-0', 'cleanup-1', 'qmgr-0', 'resolve-0',
                                'smtp-out-0', 'smtpd-0', 'smtpd-1'], pids
        with open(os.path.join(m.queue, 'run/master.pid')) as f:
            assert int(f.read()) == m.process.pid
        began = time.monotonic()
        assert m.stop() == 0
        assert time.monotonic() - began < 8
        assert not any(alive(p) for p in pids.values())
        assert sorted(os.listdir(os.path.join(m.queue, 'run'))) == ['children.lock', 'empty', 'master.pid']


def introduces_the_right_pairs():
    """every program gets the peers of the table, and no other"""
    with Master() as m:
        kids = wait_until(lambda: all(c.get('detail') for c in m.kids().values()) and m.kids(), 'all tell')
        peers = {k: c['detail']['peers'] for k, c in kids.items()}
        want = {'smtpd': {'cleanup': 2}, 'cleanup': {'smtpd': 2, 'bounce': 1, 'qmgr': 1},
                'qmgr': {'cleanup': 2, 'resolve': 1, 'smtp-out': 1, 'bounce': 1},
                'resolve': {'qmgr': 1}, 'smtp-out': {'qmgr': 1}, 'bounce': {'cleanup': 2, 'qmgr': 1}}
        for k, p in peers.items():
            assert p == want[k.rsplit('-', 1)[0]], (k, p)
        shared = {k: c['detail']['shared'] for k, c in kids.items()}
        assert shared == {k: 1 if k[:5] in ('smtpd', 'bounc') else 0 for k in kids}, shared
        doors = {k: [x['name'] for x in c['detail']['listeners']] for k, c in kids.items()}
        assert doors['qmgr-0'] == ['ctl'] and doors['bounce-0'] == ['ctl'], doors
        assert doors['resolve-0'] == [] and len(doors['smtpd-0']) == len(doors['smtpd-1']) == 1, doors
        for name in ('qmgr', 'bounce', 'master'):
            st = os.stat(os.path.join(m.queue, 'run/%s.sock' % name))
            assert st.st_mode & 0o777 == 0o600, oct(st.st_mode)
        for name in ('qmgr', 'bounce'):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(os.path.join(m.queue, 'run/%s.sock' % name))
            assert s.makefile().readline().startswith('220 stub ctl'), name


def jails():
    """as root each program is its own user, alone in an empty root, without a way back"""
    if os.geteuid() != 0:
        return
    with Master() as m:
        kids = m.kids()
        uids = set()
        for name, c in kids.items():
            with open('/proc/%d/status' % c['pid']) as f:
                status = dict(line.rstrip('\n').split(':\t', 1) for line in f if ':\t' in line)
            uid = set(status['Uid'].split())
            assert len(uid) == 1 and '0' not in uid, (name, status['Uid'])
            uids.add((name.rsplit('-', 1)[0], *uid))
            assert status['Groups'].strip() == '', (name, status['Groups'])
            assert status['NoNewPrivs'] == '1', name
            for cap in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb'):
                assert int(status[cap], 16) == 0, (name, cap)
            if not os.environ.get('EKIDEN_SAN'):
                assert status['Seccomp'] == '2', name
            assert os.readlink('/proc/%d/root' % c['pid']) == os.path.join(m.queue, 'run/empty'), name
            fds = {int(f): os.readlink('/proc/%d/fd/%s' % (c['pid'], f))
                   for f in os.listdir('/proc/%d/fd' % c['pid'])}
            assert fds[0] == fds[1] == '/dev/null' and fds[2] == m.log, (name, fds)
            assert fds[4] == os.path.join(m.queue, 'run/children.lock'), (name, fds)
        assert len({u for _, u in uids}) == 6, uids
        want = {'queue': 0o2770, 'corrupt': 0o2770, 'journal': 0o2770, 'run': 0o755, 'run/empty': 0o755}
        for d, mode in want.items():
            st = os.stat(os.path.join(m.queue, d))
            assert st.st_mode & 0o7777 == mode, (d, oct(st.st_mode))


def runs_without_root():
    """not root: everything runs as the caller, one line says so"""
    user = 65534 if os.geteuid() == 0 else None
    with Master(user=user) as m:
        assert m.banner().startswith('220 stub')
        want = 65534 if user else os.geteuid()
        for name, c in m.kids().items():
            assert c['detail']['uid'] == want, (name, c)
            with open('/proc/%d/status' % c['pid']) as f:
                text = f.read()
            assert 'NoNewPrivs:\t1' in text, name
        with open(m.log) as f:
            assert sum('event=unprivileged' in line for line in f) == 1
        assert m.stop() == 0


def restarts_what_dies():
    """each program that is killed comes back with new peers; the others stay"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        for name in ('qmgr-0', 'smtpd-1', 'cleanup-0', 'bounce-0', 'resolve-0', 'smtp-out-0'):
            before = m.pids()
            os.kill(before[name], signal.SIGKILL)
            wait_until(lambda: m.pids()[name] not in (0, before[name]) and m.all_up(), name + ' is back')
            after = m.pids()
            assert all(after[k] == before[k] for k in before if k != name), (before, after)
        kids = m.kids()
        assert kids['qmgr-0']['restarts'] == 1 and 'KILL' in kids['qmgr-0']['last_end'], kids['qmgr-0']
        assert kids['cleanup-1']['detail']['peers'] == {'smtpd': 3, 'bounce': 2, 'qmgr': 2}, kids['cleanup-1']
        # SIGTERM to one program: it ends well, and comes back.
        old = m.pids()['smtpd-0']
        os.kill(old, signal.SIGTERM)
        wait_until(lambda: m.pids()['smtpd-0'] not in (0, old) and m.all_up(), 'smtpd is back')
        assert m.kids()['smtpd-0']['last_end'] == 'exit 0'
        assert m.banner().startswith('220 stub')


def backs_off():
    """a program that cannot live is tried ever more rarely; the others serve"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        os.rename(os.path.join(m.libexec, 'resolve'), os.path.join(m.libexec, 'away'))
        os.kill(m.pids()['resolve-0'], signal.SIGKILL)
        wait_until(lambda: m.kids()['resolve-0'].get('again_in_ms', 0) > 300, 'it waits longer')
        assert m.banner().startswith('220 stub')
        row = m.kids()['resolve-0']
        assert row['pid'] == 0 and row['state'] == 'down' and row['last_end'] == 'exit 127', row
        os.rename(os.path.join(m.libexec, 'away'), os.path.join(m.libexec, 'resolve'))
        wait_until(m.all_up, 'it is back')


def refuses_to_start_half_way():
    """nothing is left running when one program refuses, dies or is missing"""
    with Master(start=False, mail_version='x cleanup:refuse') as m:
        said = m.start()
        assert said.startswith('FAILED ') and 'cleanup' in said and 'the stub says no' in said, said
        assert m.process.wait(20) == 78
        assert not children(m.process.pid)
        m.main_cf['mail_version'] = 'x qmgr:die'
        said = m.start()
        assert said.startswith('FAILED ') and 'qmgr' in said, said
        assert m.process.wait(20) == 69
        m.main_cf['mail_version'] = 'x'
        os.rename(os.path.join(m.libexec, 'bounce'), os.path.join(m.libexec, 'away'))
        said = m.start()
        assert said.startswith('FAILED ') and 'bounce' in said, said
        assert m.process.wait(20) == 72
        os.rename(os.path.join(m.libexec, 'away'), os.path.join(m.libexec, 'bounce'))
        m.main_cf['message_size_limit'] = 'many'
        said = m.start()
        assert said.startswith('FAILED '), said
        assert m.process.wait(20) == 78
        del m.main_cf['message_size_limit']
        with socket.socket() as s:
            s.bind(('127.0.0.1', m.port))
            s.listen()
            said = m.start()
            assert said.startswith('FAILED ') and str(m.port) in said and 'in use' in said, said
            assert m.process.wait(20) == 78
        assert m.start() == 'READY\n', m.said
        assert m.stop() == 0


def refuses_foreign_directories():
    """a directory that is a link, somebody else's or open to all is not used"""
    with Master(start=False) as m:
        os.symlink('/tmp', os.path.join(m.queue, 'queue'))
        assert 'queue' in m.start() and m.said.startswith('FAILED'), m.said
        assert m.process.wait(20) == 78
        os.unlink(os.path.join(m.queue, 'queue'))
        os.chmod(m.queue, 0o777)
        assert 'writable by nobody else' in m.start(), m.said
        assert m.process.wait(20) == 78
        os.chmod(m.queue, 0o1777)  # others may make files there, but not touch ours
        assert m.start() == 'READY\n', m.said
        assert m.stop() == 0
        os.chmod(m.queue, 0o755)
        if os.geteuid() == 0:
            os.makedirs(os.path.join(m.queue, 'journal'), exist_ok=True)
            os.chown(os.path.join(m.queue, 'journal'), 65534, 65534)
            assert 'journal' in m.start() and 'belongs to user 65534' in m.said, m.said
            assert m.process.wait(20) == 78
            os.chown(os.path.join(m.queue, 'journal'), 0, 0)
            lock = os.path.join(m.data, 'master.lock')
            os.chown(lock, 65534, 65534)
            assert m.start().startswith('FAILED') and 'cannot lock' in m.said, m.said
            assert m.process.wait(20) != 0
            os.chown(lock, 0, 0)
        if os.path.exists(m.log):
            os.unlink(m.log)
        for path, word in ((os.path.join(m.data, 'master.lock'), 'cannot lock'), (m.log, 'cannot log')):
            if os.path.exists(path):
                os.unlink(path)
            other = os.path.join(m.dir, 'other')
            with open(other, 'w') as f:
                f.write('ours, and for something else')
            os.chmod(other, 0o644)
            os.link(other, path)
            assert m.start().startswith('FAILED') and word in m.said, m.said
            assert m.process.wait(20) != 0
            with open(other) as f:
                assert f.read() == 'ours, and for something else'
            assert os.stat(other).st_mode & 0o777 == 0o644
            os.unlink(path)
        os.mkfifo(m.log)  # nobody reads: to open it would take for ever
        assert m.start().startswith('FAILED') and 'cannot log' in m.said, m.said
        assert m.process.wait(20) != 0
        os.unlink(m.log)
        os.makedirs(os.path.join(m.queue, 'run'), exist_ok=True)
        pid = os.path.join(m.queue, 'run/master.pid')
        if os.path.exists(pid):
            os.unlink(pid)
        os.symlink('/etc/passwd', pid)
        assert m.start().startswith('FAILED'), m.said
        assert m.process.wait(20) != 0
        os.unlink(pid)
        assert m.start() == 'READY\n', m.said
        assert m.stop() == 0


def is_the_only_one():
    """a second start on the same queue, or the same data, fails and harms nothing"""
    with Master() as m:
        first = m.process
        with open(os.path.join(m.etc, 'main.cf')) as f:
            text = f.read()
        said = m.start()
        assert said.startswith('FAILED ') and 'already runs' in said and str(first.pid) in said, said
        assert m.process.wait(20) == 75
        with Master(start=False) as other:
            other.main_cf['data_directory'] = m.data
            said = other.start()
            assert said.startswith('FAILED ') and 'data_directory' in said, said
            assert other.process.wait(20) == 75
        m.process = first
        assert m.all_up() and m.banner().startswith('220 stub') and text


def survives_the_master():
    """master is killed: its programs end; the next start waits for them, however long they take"""
    for behaviour in ('', 'qmgr:linger', 'qmgr:deaf'):
        with Master(mail_version='x ' + behaviour) as m:
            wait_until(m.all_up, 'all are up')
            old = list(m.pids().values())
            m.process.kill()
            m.process.wait()
            assert m.start() == 'READY\n', m.said
            assert not any(alive(p) for p in old), behaviour
            assert m.banner().startswith('220 stub')
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        qmgr = m.pids()['qmgr-0']
        os.kill(qmgr, signal.SIGSTOP)
        m.process.kill()
        m.process.wait()
        r, w = os.pipe()
        os.close(w)
        os.close(r)
        # It does not begin before the one that hangs is gone.
        began = []

        def start():
            began.append(m.start())

        import threading
        t = threading.Thread(target=start)
        t.start()
        wait_until(lambda: 'programs of an earlier relay are ending' in m.tail(), 'it waits')
        time.sleep(0.5)
        assert not began and alive(qmgr)
        os.kill(qmgr, signal.SIGKILL)
        t.join(60)
        assert began == ['READY\n'], began


def stops_in_order():
    """smtpd is gone before the programs behind it are told; who does not end is killed"""
    with Master(mail_version='x smtpd:linger') as m:
        wait_until(m.all_up, 'all are up')
        assert m.stop() == 0
        with open(m.log) as f:
            ended = [line.split('program=')[1].split()[0] for line in f if 'event=ended' in line]
        assert ended[:2] == ['smtpd', 'smtpd'], ended
        assert set(ended[2:4]) == {'qmgr', 'smtp-out'}, ended
        assert set(ended[4:6]) == {'bounce', 'resolve'}, ended
        assert ended[6:] == ['cleanup', 'cleanup'], ended
    with Master(mail_version='x', smtpd_drain_time='1s') as m:
        wait_until(m.all_up, 'all are up')
        os.kill(m.pids()['smtpd-0'], signal.SIGSTOP)
        began = time.monotonic()
        assert m.stop() == 0
        assert time.monotonic() - began < 30
    with Master() as m:
        os.kill(m.process.pid, signal.SIGTERM)
        assert m.process.wait(30) == 0
    with Master() as m:
        os.kill(m.process.pid, signal.SIGINT)
        assert m.process.wait(30) == 0


def reloads():
    """new settings reach all programs, listeners come and go, nobody restarts"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        before = m.pids()
        other = free_port()
        m.main_cf['myhostname'] = 'two.example.net'
        m.master_cf += '127.0.0.1:%d inet n - n - - smtpd -o smtpd_banner=other\n' % other
        m.write_conf()
        lines, code, text = m.ask(RELOAD)
        assert code == 0, (lines, code, text)
        assert m.banner(other).startswith('220 stub 127.0.0.1:%d' % other)
        assert m.banner().startswith('220 stub')
        kids = m.kids()
        assert all(c['detail']['hostname'] == 'two.example.net' for c in kids.values()), kids
        assert m.pids() == before
        # The same place with other options; the first is gone.
        m.master_cf = '127.0.0.1:%d inet n - n - - smtpd -o smtpd_banner=third\n' % other
        m.write_conf()
        lines, code, text = m.ask(RELOAD)
        assert code == 0, (lines, code, text)
        doors = wait_until(lambda: len(m.kids()['smtpd-0']['detail']['listeners']) == 1 and
                           m.kids()['smtpd-0']['detail']['listeners'], 'one door is left')
        assert 'third' in doors[0]['options'], doors
        assert m.banner(other).startswith('220 stub')
        try:
            m.banner()
            raise AssertionError('the old listener still answers')
        except (ConnectionError, OSError):
            pass
        # From one address to all of them, which covers it.
        m.master_cf = '%d inet n - n - - smtpd\n' % other
        m.main_cf['inet_interfaces'] = 'all'
        m.write_conf()
        lines, code, text = m.ask(RELOAD)
        assert code == 0, (lines, code, text)
        assert m.banner(other).startswith('220 stub')
        # And back; by SIGHUP.
        m.master_cf = '127.0.0.1:%d inet n - n - - smtpd\n' % other
        m.write_conf()
        os.kill(m.process.pid, signal.SIGHUP)
        wait_until(lambda: m.status()[0]['settings'] == 5, 'it has reloaded')
        assert m.banner(other).startswith('220 stub')
        assert m.pids() == before


def keeps_the_old_settings():
    """a reload that cannot be, or that one program refuses, changes nothing and says why"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        before = m.pids()
        good = dict(m.main_cf)
        for change, expect in (({'message_size_limit': 'many'}, 'cannot be used'),
                               ({'mail_version': 'x bounce:refuse', 'myhostname': 'three.example.net'},
                                'bounce the stub says no'),
                               ({'queue_directory': m.dir + '/elsewhere'}, 'queue_directory'),
                               ({'maillog_file': '/var/no/such/folder/log'}, 'cannot log to')):
            m.main_cf = dict(good, **change)
            m.write_conf()
            lines, code, text = m.ask(RELOAD)
            assert code == 78 and expect in text, (change, lines, code, text)
            if 'message_size_limit' in change:
                assert any(p['level'] == 'error' and p['line'] > 0 for p in lines), lines
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            s.listen()
            m.main_cf = dict(good)
            cf = m.master_cf
            m.master_cf += '127.0.0.1:%d inet n - n - - smtpd\n' % s.getsockname()[1]
            m.write_conf()
            lines, code, text = m.ask(RELOAD)
            assert code == 78 and 'in use' in text, (lines, code, text)
            m.master_cf = cf
        kids = m.kids()
        assert m.pids() == before
        assert all(c['detail']['hostname'] == 'one.example.net' for c in kids.values()), kids
        assert kids['qmgr-0']['detail']['forgotten'] == 1, kids['qmgr-0']
        m.write_conf()
        assert m.ask(RELOAD)[1] == 0
        assert m.banner().startswith('220 stub')


def one_program_does_not_answer_for_others():
    """settings that one says are good ten times, and another refuses later, are not used"""
    with Master(mail_version='x') as m:
        wait_until(m.all_up, 'all are up')
        m.main_cf['mail_version'] = 'x smtpd:babble bounce:slow bounce:refuse'
        m.write_conf()
        _, code, text = m.ask(RELOAD)
        assert code == 78 and 'bounce the stub says no' in text, (code, text)
        assert m.status()[0]['settings'] == 1


def reopens_the_log():
    """after a reload all log to the new file where the old one was"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        os.rename(m.log, m.log + '.1')
        assert m.ask(RELOAD)[1] == 0
        for name, c in m.kids().items():
            assert os.readlink('/proc/%d/fd/2' % c['pid']) == m.log, name
        assert os.readlink('/proc/%d/fd/2' % m.process.pid) == m.log
        assert os.stat(m.log).st_mode & 0o777 == 0o640


def reloads_while_programs_die():
    """kills and reloads at once: in the end all are up with the last settings"""
    with Master() as m:
        wait_until(m.all_up, 'all are up')
        for i in range(12):
            m.main_cf['myhostname'] = 'h%d.example.net' % i
            m.write_conf()
            for name, pid in list(m.pids().items())[i % 4::4]:
                if pid:
                    os.kill(pid, signal.SIGKILL)
            m.ask(RELOAD)
        wait_until(lambda: m.ask(RELOAD)[1] == 0, 'a reload succeeds')
        wait_until(m.all_up, 'all are up again')
        for name, c in m.kids().items():
            assert c['detail']['hostname'] == 'h11.example.net', (name, c)
        assert m.banner().startswith('220 stub')


def hears_only_what_it_understands():
    """nonsense on the control socket harms nobody but its sender"""
    with Master() as m:
        path = os.path.join(m.queue, 'run/master.sock')
        hello = struct.pack('>IHBB', 5, HELLO, 1, 0) + struct.pack('>BI', ROLE_CTL, 0)
        ask = struct.pack('>IHBB', 13, CTL_ASK, 1, 0) + struct.pack('>BIII', STATUS, 0, 0, 0)
        for junk in (b'', b'\0' * 8, b'\xff' * 64, hello + b'\xff' * 8, ask, hello + hello,
                     hello + struct.pack('>IHBB', 1, CTL_ASK, 1, 0) + b'\xee', hello + ask[:15],
                     struct.pack('>IHBB', 5, HELLO, 1, 0) + struct.pack('>BI', 1, 0)):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(path)
            s.sendall(junk)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
            s.close()
        lines, code, _ = m.ask(3)
        assert code == 64 and not lines
        # A crowd that says nothing does not keep the next one out for long.
        crowd = []
        for _ in range(80):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            crowd.append(s)
        for s in crowd:
            s.close()
        assert wait_until(m.all_up, 'it answers')


def frees_its_lock_before_it_says_so():
    """stop, start, stop, start without a pause"""
    with Master() as m:
        for _ in range(3):
            assert m.stop() == 0
            assert m.start() == 'READY\n', m.said
        for name in (os.path.join(m.queue, 'run/master.pid'), os.path.join(m.queue, 'run/children.lock'),
                     os.path.join(m.data, 'master.lock')):
            # Whoever can open it can lock it, and nothing starts any more.
            assert os.stat(name).st_mode & 0o077 == 0, name
        with open(os.path.join(m.queue, 'run/master.pid')) as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raise AssertionError('master.pid is not locked')
            except BlockingIOError:
                pass


def tells_systemd():
    """READY, RELOADING, STOPPING and the watchdog reach the service manager"""
    with Master(start=False) as m:
        path = os.path.join(m.dir, 'notify')
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(path)
        s.settimeout(30)
        os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC='400000')
        try:
            assert m.start() == 'READY\n', m.said
        finally:
            del os.environ['NOTIFY_SOCKET'], os.environ['WATCHDOG_USEC']

        def heard(what):
            while True:
                if what in s.recv(4096).decode():
                    return True

        assert heard('READY=1') and heard('WATCHDOG=1') and heard('WATCHDOG=1')
        assert m.ask(RELOAD)[1] == 0
        assert heard('RELOADING=1') and heard('READY=1')
        assert m.stop() == 0
        assert heard('STOPPING=1')


def main():
    cases = Cases()
    for f in (starts_and_stops, introduces_the_right_pairs, jails, runs_without_root, restarts_what_dies,
              backs_off, refuses_to_start_half_way, refuses_foreign_directories, is_the_only_one,
              survives_the_master, stops_in_order, reloads, keeps_the_old_settings,
              one_program_does_not_answer_for_others, reopens_the_log,
              reloads_while_programs_die, hears_only_what_it_understands,
              frees_its_lock_before_it_says_so, tells_systemd):
        cases.run(f)
    cases.end()


if __name__ == '__main__':
    main()
