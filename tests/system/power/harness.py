# SPDX-License-Identifier: Apache-2.0
"""Records what a disk sees while a queue is written, and cuts the power at random moments of it.

Everything happens in a mount namespace of its own (inside()), so mounts and loop devices vanish
with the last process, however that ends.
"""

import concurrent.futures
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
BUILD = os.path.abspath(os.environ.get("EKIDEN_BUILD", os.path.join(ROOT, "build")))

PLANTED = ["NO_FSYNC", "ACK_EARLY", "NO_DIRSYNC", "NO_TORN_CHECK", "RETRY_FSYNC"]

# Large but sparse: a writer reserves space ahead only where there is plenty.
DISK_BYTES = 2 << 30

# name: (type, how to make it, options of the mount)
FILE_SYSTEMS = {
    "ext4": ("ext4",
             "mkfs.ext4 -q -F -N 2048 -J size=8 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard",
             "noinit_itable"),
    "xfs": ("xfs", "mkfs.xfs -q -f -K", "nouuid"),
    "ext4-writeback": (
        "ext4",
        "mkfs.ext4 -q -F -N 2048 -J size=8 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard",
        "noinit_itable,data=writeback"),
    # Nothing is ordered here: of data and size either may come first.
    "ext4-nojournal": (
        "ext4",
        "mkfs.ext4 -q -F -N 2048 -O ^has_journal -E lazy_itable_init=1,nodiscard",
        "noinit_itable,norecovery"),
}


# Where a bug shows when ext4 as it is by default would hide it: there a file gets longer only after
# its data, so a torn group is never seen.
SHOWS = {"NO_TORN_CHECK": "ext4-nojournal"}


class Problem(Exception):
    """The harness itself could not do its work."""


def run(argv, **how):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **how)
    if done.returncode != 0:
        raise Problem(f"{shlex.join(argv)}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def why_not():
    """Why this machine cannot do it, or None."""
    if os.getuid() != 0:
        return "not root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not stat.S_ISCHR(os.stat(path).st_mode if os.path.exists(path) else 0):
            return f"no {path}"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as e:
            return f"{path}: {e.strerror}"
    for tool in ("mkfs.ext4", "mkfs.xfs", "unshare", "losetup", "mount", "umount", "gcc"):
        if shutil.which(tool) is None:
            return f"no {tool}"
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        return "no mount namespace of its own"
    if subprocess.run(["losetup", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                      check=False).returncode != 0:
        return "no loop device can be had"
    return None


def inside():
    """Starts the calling program again in its own mount namespace, unless it is there."""
    if os.environ.get("EKIDEN_POWER_INSIDE") != "1":
        os.environ["EKIDEN_POWER_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable,
                              *sys.argv])


class Work:
    """A tmpfs to work in, gone with the namespace."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="ekiden-power.")
        run(["mount", "-t", "tmpfs", "-o", "size=3g,mode=0700", "tmpfs", self.path])

    def __enter__(self):
        return self.path

    def __exit__(self, *why):
        subprocess.run(["umount", "-l", self.path], check=False)
        os.rmdir(self.path)


def build(work, planted=None):
    """The program `power', with a planted bug; all else comes from the build."""
    if planted is None:
        return os.path.join(BUILD, "tests/system/power/power")
    program = os.path.join(work, "power-" + planted)
    sources = [os.path.join(ROOT, "common/queue", n)
               for n in sorted(os.listdir(os.path.join(ROOT, "common/queue"))) if n.endswith(".c")]
    archives = [os.path.join(BUILD, "lib", f"libcommon-{n}.a") for n in ("io", "mail", "base")]
    run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-I" + ROOT, "-O1", f"-DBUG_{planted}", "-o", program,
         os.path.join(ROOT, "tests/system/power/power.c"), *sources,
         "-Wl,--start-group", *archives, "-Wl,--end-group", "-Wl,--gc-sections", "-Wl,--wrap=fdatasync",
         "-Wl,--as-needed", "-levent_core", "-lssl", "-lcrypto"])
    return program


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Problem("waited in vain for " + what)
        time.sleep(0.01)


def record(work, program, name, seed, groups):
    """Fills a queue on a recorded disk; returns (base image, log)."""
    fstype, mkfs, options = FILE_SYSTEMS[name]
    tag = f"{name}-{os.path.basename(program)}-{seed}"
    base = os.path.join(work, tag + ".base")
    log = os.path.join(work, tag + ".log")
    fuse = os.path.join(work, tag + ".fuse")
    mnt = os.path.join(work, tag + ".mnt")
    os.mkdir(fuse)
    os.mkdir(mnt)
    with open(base, "wb") as f:
        f.truncate(DISK_BYTES)
    run([*mkfs.split(), base])
    disk = subprocess.Popen([os.path.join(BUILD, "tests/system/power/power_disk"), base, log, fuse])
    loop = None
    try:
        wait_for(lambda: disk.poll() is not None or os.path.exists(fuse + "/disk"), "the disk")
        loop = run(["losetup", "--direct-io=on", "-f", "--show", fuse + "/disk"]).strip()
        run(["mount", "-t", fstype, "-o", "noatime," + options, loop, mnt])
        # Gone with the mount.
        run(["losetup", "-d", loop])
        os.mkdir(mnt + "/queue")
        os.sync()
        said = run([program, "write", mnt + "/queue", fuse + "/mark", str(seed), str(groups)])
        run(["umount", mnt])
        # The loop device lets go of the disk a moment later.
        wait_for(lambda: subprocess.run(["umount", fuse], stderr=subprocess.DEVNULL,
                                        check=False).returncode == 0, "the disk to be free")
        if disk.wait(60) != 0:
            raise Problem("the disk ended badly")
    finally:
        if disk.poll() is None:
            subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL, check=False)
            subprocess.run(["umount", "-l", fuse], stderr=subprocess.DEVNULL, check=False)
            disk.kill()
            disk.wait()
    return base, log, said.strip()


def cuts_of_one(work, program, name, base, log, seed, count, until_red=False, keep=None):
    """Returns (is all well, what was said)."""
    fstype, _, options = FILE_SYSTEMS[name]
    own = tempfile.mkdtemp(prefix="cuts.", dir=work)
    argv = [program, "find" if until_red else "cuts", base, log, own, fstype, options, str(seed),
            str(count)] + ([keep] if keep else [])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode not in (0, 1):
        raise Problem(f"{shlex.join(argv)}: {done.stdout.strip()}")
    return done.returncode == 0, done.stdout.strip()


def cuts(work, program, name, base, log, seed, count, keep=None, beside=4):
    """The same by several at a time: mounting is mostly waiting."""
    share = [count // beside + (1 if i < count % beside else 0) for i in range(beside)]
    with concurrent.futures.ThreadPoolExecutor(beside) as pool:
        parts = list(pool.map(
            lambda i: cuts_of_one(work, program, name, base, log, seed + i, share[i], keep=keep),
            [i for i in range(beside) if share[i] > 0]))
    return all(well for well, _ in parts), "\n".join(text for _, text in parts)
