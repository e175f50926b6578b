# SPDX-License-Identifier: Apache-2.0
"""Runs ``syncd`` in a fork of a process that has imported it already, which starts in a tenth of the time.

Nothing is imported here but what ``syncd`` itself needs: this module is what the forking process holds.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping, Sequence

import syncd.cli.sync  # noqa: F401 -- so that no fork has to
from syncd.cli.main import main
from syncd.transport import HttpClient

HttpClient("warm").close()  # httpx imports late


def run_syncd(words: Sequence[str], output: str, environ: Mapping[str, str]) -> None:
    """Run ``syncd`` with these arguments in this process; its output goes to the file ``output``."""
    threading.Thread(target=_die_with_the_test, daemon=True).start()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.environ.update(environ)
    sys.argv = ["syncd", *words]
    main()


def _die_with_the_test() -> None:
    test = multiprocessing.parent_process()
    assert test
    test.join()
    os._exit(1)
