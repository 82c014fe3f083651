"""The lock of a training folder: two processes that train in one folder would mix their checkpoints and logs.

A process holds the lock from the moment it opens a run for training until the Run is closed or the process ends. To
read a run, as `npllm generate` does, no lock is needed: its files are replaced atomically.
"""

import os
import weakref
from pathlib import Path

from npllm.utils.files import file_lock

LOCK = ".npllm-lock"
_held: "weakref.WeakValueDictionary[tuple[Path, int], RunLock]" = weakref.WeakValueDictionary()


class RunLock:
    """The lock of a folder, held until `release` or until no object refers to it."""

    def __init__(self, folder: Path):
        context = file_lock(folder / LOCK, wait=False)
        try:
            context.__enter__()
        except BlockingIOError:
            raise BlockingIOError(
                f"{folder} is in use: another process trains in it; wait until it ends, or choose another folder"
            ) from None
        self.release = weakref.finalize(self, _release, context, os.getpid())


def hold(folder: Path) -> RunLock:
    """Lock a folder, or return the lock that this process already holds. Raises BlockingIOError if another holds it."""
    key = folder.resolve(), os.getpid()
    lock = _held.get(key)
    if lock is None or not lock.release.alive:
        lock = _held[key] = RunLock(folder)
    return lock


def _release(context, process_id):
    if os.getpid() == process_id:  # a forked process does not own the lock
        context.__exit__(None, None, None)
