"""Functions that worker processes import by name."""

import os
import signal
import sys
import time
from pathlib import Path


def square(x):
    return x * x


def process_id(_):
    return os.getpid()


def misbehave(task):
    """Do what the task says: raise, die, hang, leave with a status, return something that cannot travel."""
    if task == "raise":
        raise ValueError("no such thing")
    if task == "segfault":
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "exit":
        os._exit(7)
    if task == "system exit":
        sys.exit(3)
    if task == "unpicklable":
        return lambda: None
    return task


def variables(names):
    return {name: os.environ.get(name) for name in names}


def note_and_sleep(task):
    path, seconds = task
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    Path(path).with_suffix(".finished").write_text("")


def start_a_code(path):
    """Start an external program as a code would, and wait for it."""
    from activeph.label.program import run_program

    code = f"import os, time; open({path!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    run_program([sys.executable, "-c", code], Path(path).parent, "log")


def sleep(seconds):
    time.sleep(seconds)
    return seconds


class Unloadable:
    """Travels to the worker but cannot be put together there."""

    def __reduce__(self):
        return (int, ("not a number",))


def note_job(task):
    """Note the number of the job and the time, then work for a while."""
    path, seconds = task
    Path(path).write_text(f"{os.environ['SLURM_JOB_ID']} {time.time()}")
    time.sleep(seconds)
