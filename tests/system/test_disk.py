#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# serial
"""What a full, dying or frozen disk does to a relay: nothing is lost, and it recovers by itself."""
import os
import smtplib
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'support'))
from relay import Cases, Relay, wait_until  # noqa: E402
from sink import Sink  # noqa: E402


def sh(*argv, check=True):
    return subprocess.run(argv, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Disk:
    """A small file system of its own in a loop device."""

    def __init__(self, megabytes=96, kind='ext4'):
        self.dir = tempfile.mkdtemp(prefix='ekiden-disk-', dir='/tmp')
        os.chmod(self.dir, 0o755)
        self.image, self.mnt = os.path.join(self.dir, 'image'), os.path.join(self.dir, 'mnt')
        os.mkdir(self.mnt)
        with open(self.image, 'wb') as f:
            f.truncate(megabytes << 20)
        sh('mkfs.' + kind, '-q', *(['-F', '-m', '0'] if kind == 'ext4' else ['-f']), self.image)
        self.device = ''
        self.mounted = False
        try:
            self.device = sh('losetup', '-f', '--show', self.image).stdout.strip()
            self.mount()
        except subprocess.CalledProcessError:
            self.close()
            raise

    def mount(self):
        sh('mount', self.device, self.mnt)
        self.mounted = True

    def umount(self):
        wait_until(lambda: sh('umount', self.mnt, check=False).returncode == 0, 'the disk can be unmounted')
        self.mounted = False

    def revive(self):
        """Mounts what has died anew; while somebody has a copy of all mounts, it stays dead."""
        def is_alive():
            self.umount()
            self.mount()
            try:
                return os.listdir(self.mnt)
            except OSError:
                return False
        wait_until(is_alive, 'the disk can be read again', every=0.2)

    def balloon(self, leave_kb):
        """Fills the disk up to so many KiB."""
        st = os.statvfs(self.mnt)
        size = st.f_bavail * st.f_frsize - leave_kb * 1024
        if size > 0:
            sh('fallocate', '-l', str(size), os.path.join(self.mnt, 'balloon'))

    def pop(self):
        os.unlink(os.path.join(self.mnt, 'balloon'))

    def close(self):
        if self.mounted:
            sh('fsfreeze', '-u', self.mnt, check=False)
            self.umount()
        if self.device:
            sh('losetup', '-d', self.device, check=False)
        sh('rm', '-rf', '--', self.dir)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def relay_on(disk, sink, **settings):
    relay = Relay(start=False, relayhost='[127.0.0.1]:%d' % sink.port, minimal_backoff_time='1s',
                  maximal_backoff_time='2s', restart_delay_limit='1s', **settings)
    relay.queue = relay.settings['queue_directory'] = os.path.join(disk.mnt, 'spool')
    os.makedirs(relay.queue, mode=0o755, exist_ok=True)
    relay.write_conf()
    relay.start()
    return relay


def message(ident, size=2000):
    return b'From: a@example.net\r\nX-Test-Id: ' + ident.encode() + b'\r\n\r\n' + b'x' * 70 * 0 + \
        b''.join(b'%s\r\n' % (b'y' * 70) for _ in range(size // 72))


def try_send(relay, ident, size=2000):
    """The code of the reply that decided; 0 when there was none."""
    try:
        with relay.smtp(timeout=60) as c:
            c.ehlo('client.example.net')
            code, _ = c.mail('a@example.net', ['SIZE=%d' % size])
            if code != 250:
                return code
            code, _ = c.rcpt('b@example.com')
            if code != 250:
                return code
            try:
                return c.data(message(ident, size))[0]
            except smtplib.SMTPDataError as e:
                return e.smtp_code
    except smtplib.SMTPResponseException as e:
        return e.smtp_code
    except (OSError, smtplib.SMTPException):
        return 0


def arrives(sink, ident, why):
    wait_until(lambda: sink.ledger[(ident, 'b@example.com')] >= 1, why)


def full_disk_refuses_and_recovers():
    """a full disk answers 452, loses nothing, and takes mail again when there is room"""
    with Disk() as disk, Sink() as sink:
        relay = relay_on(disk, sink, queue_minfree=4 << 20)
        try:
            assert try_send(relay, 'before') == 250
            arrives(sink, 'before', 'mail before the disk is full')
            disk.balloon(leave_kb=1024)
            code = wait_until(lambda: (lambda c: c if c != 250 else 0)(try_send(relay, 'full')),
                              'a refusal on a full disk')
            assert code in (452, 451), code
            disk.pop()
            wait_until(lambda: try_send(relay, 'after') == 250, 'mail is taken again', 30)
            arrives(sink, 'after', 'mail after the disk had room again')
        finally:
            relay.close()


def writes_that_fail_never_get_250():
    """when the very blocks run out, each message gets 250 and arrives, or 4xx"""
    with Disk() as disk, Sink() as sink:
        relay = relay_on(disk, sink, queue_minfree=1)
        try:
            disk.balloon(leave_kb=6000)
            acked, refused = [], 0
            for i in range(160):
                code = try_send(relay, 'm%d' % i, 60000)
                if code == 250:
                    acked.append('m%d' % i)
                else:
                    assert code in (0, 421, 451, 452), code
                    refused += 1
            disk.pop()
            wait_until(lambda: try_send(relay, 'last') == 250, 'mail is taken again', 60)
            for ident in [*acked, 'last']:
                arrives(sink, ident, 'acknowledged message %s' % ident)
            print('# %d acknowledged, %d refused' % (len(acked), refused))
        finally:
            relay.close()


def delivery_goes_on_without_room():
    """what is queued is delivered while the disk is full"""
    with Disk() as disk, Sink(delay=0.01) as sink:
        relay = relay_on(disk, sink, queue_minfree=1 << 20)
        try:
            for i in range(50):
                assert try_send(relay, 'q%d' % i) == 250
            disk.balloon(leave_kb=8)
            for i in range(50):
                arrives(sink, 'q%d' % i, 'queued message %d on a full disk' % i)
        finally:
            relay.close()


def dead_disk(kind):
    with Disk(200 if kind == 'ext4' else 400, kind) as disk, Sink() as sink:
        relay = relay_on(disk, sink, queue_minfree=1)
        acked = []
        stop = threading.Event()

        def load(number):
            i = 0
            while not stop.is_set():
                i += 1
                ident = '%d-%d' % (number, i)
                if try_send(relay, ident) == 250:
                    acked.append(ident)
        threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
        try:
            for t in threads:
                t.start()
            wait_until(lambda: len(acked) > 100, 'mail flows')
            # -f: with its journal written. Without it the kernel may let the fdatasync that is under
            # way succeed although its group never reaches the disk, for any program.
            sh('xfs_io', '-x', '-c', 'shutdown -f', disk.mnt)
            count = len(acked)
            time.sleep(1)
            stop.set()
            for t in threads:
                t.join(120)
            # Replies that were under way; no message can have become durable afterwards.
            assert len(acked) - count <= 8, '%d acknowledged after the disk had died' % (len(acked) - count)
            assert try_send(relay, 'dead') != 250
            relay.stop(check=False)
            disk.revive()
            relay.start()
            relay.started = True
            for ident in acked:
                arrives(sink, ident, 'message %s, acknowledged before the disk died' % ident)
            print('# %d acknowledged' % len(acked))
        finally:
            stop.set()
            relay.close()


def dead_ext4():
    """a disk that dies (ext4): nothing more is acknowledged, what was is there after a restart"""
    dead_disk('ext4')


def dead_xfs():
    """a disk that dies (xfs): nothing more is acknowledged, what was is there after a restart"""
    dead_disk('xfs')


def frozen():
    """a disk that hangs for ten seconds: no message is lost, no program is killed for it"""
    with Disk(200) as disk, Sink() as sink:
        relay = relay_on(disk, sink)
        results = {}

        def one(i):
            results[i] = try_send(relay, 'f%d' % i)
        try:
            assert try_send(relay, 'warm') == 250
            before = relay.pids()
            sh('fsfreeze', '-f', disk.mnt)
            threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
            for t in threads:
                t.start()
            time.sleep(10)
            assert 250 not in results.values(), 'acknowledged on a frozen disk'
            sh('fsfreeze', '-u', disk.mnt)
            for t in threads:
                t.join(120)
            for i, code in results.items():
                if code == 250:
                    arrives(sink, 'f%d' % i, 'message %d after the thaw' % i)
            wait_until(lambda: try_send(relay, 'thawed') == 250, 'mail is taken after the thaw')
            assert relay.pids() == before, 'programs were restarted'
        finally:
            relay.close()


def read_only():
    """a read-only queue stops the start with a clear error"""
    with Disk() as disk, Sink() as sink:
        relay = Relay(start=False, relayhost='[127.0.0.1]:%d' % sink.port)
        relay.queue = relay.settings['queue_directory'] = os.path.join(disk.mnt, 'spool')
        os.makedirs(relay.queue, mode=0o755)
        relay.write_conf()
        sh('mount', '-o', 'remount,ro', disk.mnt)
        try:
            r = relay.ctl('start', check=False)
            assert r.returncode != 0
            assert 'ead-only' in r.stdout + r.stderr, r.stdout + r.stderr
        finally:
            relay.close()
            sh('mount', '-o', 'remount,rw', disk.mnt)


def why_not():
    """Why this machine cannot do it, or None."""
    if os.getuid() != 0:
        return 'needs root'
    try:
        Disk().close()
    except subprocess.CalledProcessError as e:
        return 'no file system of its own can be made here: %s' % ' '.join((e.stdout or str(e)).split())
    return None


cases = Cases()
why = why_not()
if why is not None:
    cases.skip('disk faults', why)
    cases.end()
for case in (full_disk_refuses_and_recovers, writes_that_fail_never_get_250, delivery_goes_on_without_room,
             dead_ext4, dead_xfs, frozen, read_only):
    cases.run(case)
cases.end()
