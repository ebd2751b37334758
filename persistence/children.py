"""Processes that must not outlive the one that made them, and a fork that does one thing beside its parent."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from typing import Any, Final

from protocol.readers import EXIT_CRASHED

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_NAME_BYTES_MAX: Final = 15


def die_with_parent(parent_pid: int) -> None:
    """Have the system kill this process when its parent ends; end now if process ``parent_pid`` has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(EXIT_CRASHED)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent ends, so that their end can be waited for."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(known: Collection[int]) -> None:
    """Take note of the end of adopted processes, so that the system forgets them; never of ``known`` children."""
    with contextlib.suppress(ChildProcessError):
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, 0)


def set_process_name(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show, cut to 15 bytes."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:_NAME_BYTES_MAX]))


def fork_beside(name: str, work: Callable[[], int], nice: int) -> int:
    """Fork a child that does ``work`` on this process's memory as it is now, and ends with its result; its pid.

    ``nice`` lowers its priority. For processes of one thread; the parent must reap it. What both write is separate, but for memory that
    is mapped shared.
    """
    parent_pid = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = EXIT_CRASHED
    try:
        die_with_parent(parent_pid)
        set_process_name(name)
        # The collector would look at, and so copy, every page with an object.
        gc.disable()
        os.nice(nice)
        status = work()
    except BaseException:  # noqa: BLE001 - the log is the last to hear of it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _prctl(option: int, argument: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
