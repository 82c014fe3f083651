"""Write a file whole or not at all: whatever happens on the way, the old content or the new one is there, never half.

    temporary file in the same folder → write → to the disk → [rename over the old one]

A rename within one file system is atomic: who opens the name gets all of the old file or all of the new one. And where
two processes would write the same file, `alone` lets one of them wait for the other.

POSIX.1-2017, System Interfaces, rename.
"""

import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    import msvcrt

    fcntl = None


def data_folder():
    """The folder of the files that ship with npllm: npllm/data in an installed package, data/ in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "data"
    return installed if installed.is_dir() else package.parent / "data"


@contextmanager
def atomic_write(path):
    """Give a binary file to write to; at the end of the `with` it becomes `path`, after an exception it is gone.

    with atomic_write("weights.bin") as file:
        file.write(content)

    The last step is the rename, so an error, a full disk, Ctrl-C or a power cut before it leaves `path` as it was.
    A new file has the permissions that `open` would give it, one that is replaced keeps its own; of a link, the
    file it points to is replaced.
    """
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else the rename may reach the disk before the content
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:  # KeyboardInterrupt too
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink()
        raise


@contextmanager
def alone(path):
    """Wait until no other process holds the lock file `path`, and hold it; a process that dies lets go of it.

    The file is empty and is removed at the end. Raises FileExistsError for one that is not empty: it is somebody's.
    """
    while True:
        with open(path, "ab") as file:
            if os.fstat(file.fileno()).st_size:
                raise FileExistsError(f"{path} is no lock file, for it is not empty; rename it or take another name")
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            else:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # gives up with OSError after ten seconds
            if not _is_open_at(file, path):  # the holder before us removed it while we waited
                continue
            try:
                yield
            finally:
                with suppress(OSError):  # Windows does not remove open files; an empty one does no harm
                    path.unlink()
            return


def _is_open_at(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
