#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
# san: no
"""The power fails while the queue is written: nothing acknowledged is lost, nothing torn is read.

The commit protocol is recorded on a disk that remembers and cut at random moments, on ext4 and on
XFS; then builds with a planted bug are put through the same and have to fail. `make torture-power'
does more of it.
"""

import concurrent.futures
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "power"))
import harness  # noqa: E402

CUTS = 100
GROUPS = 90


def told(case, well, text, why):
    """A case as the runner reads it, with what was said before it."""
    said = "".join(f"# {line}\n" for line in text.splitlines()[-12:])
    return well, said + (f"ok - {case}" if well else f"not ok - {case}: {why}")


def survives(work, name, seed):
    program = harness.build(work)
    base, log, said = harness.record(work, program, name, seed, GROUPS)
    well, text = harness.cuts(work, program, name, base, log, seed, CUTS,
                              keep=os.environ.get("EKIDEN_POWER_KEEP"))
    return told(f"nothing acknowledged is lost on {name} in {CUTS} power cuts", well,
                said + "\n" + text, f"seed {seed}: {text.splitlines()[0]}")


def is_found_out(work, bug, seed):
    program = harness.build(work, bug)
    name = harness.SHOWS.get(bug, "ext4")
    base, log, said = harness.record(work, program, name, seed, GROUPS)
    well, text = harness.cuts_of_one(work, program, name, base, log, seed, CUTS, until_red=True)
    return told(f"a build with {bug} is found out within {CUTS} power cuts", not well,
                said + "\n" + text, f"seed {seed}: nothing was wrong")


def main():
    why = harness.why_not()
    if why is not None:
        print(f"ok - power cuts # SKIP {why}")
        return 0
    harness.inside()
    seed = int(os.environ.get("EKIDEN_POWER_SEED") or random.randrange(1, 1 << 31))
    good = True
    with harness.Work() as work, concurrent.futures.ThreadPoolExecutor(4) as pool:
        cases = [pool.submit(survives, work, name, seed) for name in ("ext4", "xfs")]
        cases += [pool.submit(is_found_out, work, bug, seed) for bug in harness.PLANTED]
        for case in cases:
            well, text = case.result()
            good &= well
            print(text, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
