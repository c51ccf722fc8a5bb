#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
# serial
"""Three hundred kills of programs under load: nothing that was acknowledged is lost."""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
kills = os.environ.get('EKIDEN_KILLS', '300')
os.execv(sys.executable, [sys.executable, os.path.join(here, 'torture_kill.py'), '--kills', kills, '--rate', '5'])
