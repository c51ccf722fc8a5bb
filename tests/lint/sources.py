# SPDX-License-Identifier: Apache-2.0
"""The files of the tree that are looked at: found by walking, since git refuses to list a tree
that belongs to somebody else, and there may be no git at all."""

import os

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../.."))
PROGRAMS = ["master", "smtpd", "cleanup", "qmgr", "resolve", "smtp-out", "bounce", "ctl"]


def find(endings, folders=("common", *PROGRAMS, "tests")):
    """Sorted paths from the root of the tree, which becomes the current directory."""
    os.chdir(ROOT)
    found = []
    for folder in folders:
        for base, below, names in os.walk(folder):
            below[:] = [b for b in below if b != "__pycache__" and not b.startswith(".")]
            found += [os.path.join(base, n) for n in names if n.endswith(endings)]
    return sorted(found)
