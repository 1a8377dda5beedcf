"""A worker process: receives functions and tasks over a socket, sends outcomes back, dies with its driver.

Started as ``python -m activeph.execute.worker <descriptor> <driver's pid>``.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from activeph.execute.serial import call
from activeph.records import Failed

PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve tasks until the driver closes the socket or dies."""
    descriptor, driver = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    die_with(driver)
    faulthandler.enable()
    connection = Connection(descriptor)
    sys.path[:] = pickle.loads(connection.recv_bytes())
    functions: dict[int, Any] = {}
    with contextlib.suppress(EOFError, OSError):  # the driver is gone
        while True:
            connection.send_bytes(_serve(connection.recv_bytes(), functions))


def _serve(message: bytes, functions: dict[int, Any]) -> bytes:
    """Return the pickled outcome of one message: (number of the call, function or None, index, task)."""
    index = -1
    try:
        number, function, index, task = pickle.loads(message)
        if function is not None:
            functions.clear()
            functions[number] = pickle.loads(function)
        outcome = call(functions[number], pickle.loads(task), index)
        return pickle.dumps(outcome)
    except Exception as error:  # a task or a result that cannot be pickled
        return pickle.dumps(Failed(index, f"{type(error).__name__}: {error}", traceback.format_exc()))


def die_with(driver: int) -> None:
    """Make sure that this process does not outlive the driver, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()
    if os.getppid() != driver:  # it died before the line above
        os._exit(1)


def _watch(driver: int) -> None:
    """Leave when another process has become the parent; where the system has no death signal this is all there is."""
    pause = threading.Event()
    while os.getppid() == driver:
        pause.wait(1.0)
    os._exit(1)


if __name__ == "__main__":
    main()
