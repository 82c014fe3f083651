import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.utils import files
from npllm.utils.file_errors import FileError
from npllm.utils.files import atomic_write, file_lock, read_regular_file

chunks = st.lists(st.binary(max_size=200), max_size=5)


def write(path, *contents):
    with atomic_write(path) as file:
        for content in contents:
            file.write(content)


class TestAtomicWrite:
    def test_a_pipe_or_device_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="pipe is a pipe, a socket or a device; it must be a regular file$"):
            write(tmp_path / "pipe", b"1")
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)

    def test_links_that_point_to_each_other_are_refused(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        with pytest.raises(OSError, match="symbolic links"):
            write(tmp_path / "a", b"1")
        assert (tmp_path / "a").is_symlink() and (tmp_path / "b").is_symlink()

    @given(chunks, st.none() | st.binary(max_size=200))
    def test_the_content_replaces_the_old_one(self, contents, before):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            if before is not None:
                path.write_bytes(before)
            write(path, *contents)
            assert path.read_bytes() == b"".join(contents)
            assert os.listdir(folder) == ["text.txt"]

    @given(chunks, st.sampled_from([KeyboardInterrupt, SystemExit, OSError, ZeroDivisionError]))
    def test_any_exception_leaves_the_old_file_and_nothing_else(self, contents, exception):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_bytes(b"old")
            with pytest.raises(exception), atomic_write(path) as file:
                for content in contents:
                    file.write(content)
                raise exception
            assert path.read_bytes() == b"old"
            assert os.listdir(folder) == ["text.txt"]

    def test_the_file_has_the_old_content_until_the_end(self, tmp_path):
        path = tmp_path / "text.txt"
        path.write_bytes(b"old")
        with atomic_write(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new"

    def test_the_content_is_synced_before_the_rename(self, tmp_path, monkeypatch):
        calls = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda *a: (calls.append("fsync"), fsync(*a)))
        monkeypatch.setattr(os, "replace", lambda *a: (calls.append("replace"), replace(*a)))
        write(tmp_path / "text.txt", b"new")
        assert calls == ["fsync", "replace", "fsync"]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failing_last_step_leaves_the_old_file(self, tmp_path, monkeypatch, step):
        def full(*arguments):
            raise OSError("the disk is full")

        path = tmp_path / "text.txt"
        path.write_bytes(b"old")
        monkeypatch.setattr(os, step, full)
        with pytest.raises(OSError, match="the disk is full"):
            write(path, b"new")
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["text.txt"]

    def test_a_missing_folder_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "nowhere" / "text.txt", b"new")
        assert os.listdir(tmp_path) == []

    def test_a_folder_of_this_name_is_an_error(self, tmp_path):
        (tmp_path / "text.txt").mkdir()
        with pytest.raises(OSError):
            write(tmp_path / "text.txt", b"new")
        assert os.listdir(tmp_path) == ["text.txt"]

    def test_a_name_of_the_maximum_length(self, tmp_path):
        write(tmp_path / ("n" * 255), b"new")
        assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
class TestPermissions:
    @pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
    def test_a_new_file_has_the_permissions_of_open(self, tmp_path, umask):
        before = os.umask(umask)
        try:
            write(tmp_path / "text.txt", b"new")
            (tmp_path / "other.txt").write_bytes(b"")
        finally:
            os.umask(before)
        mode = stat.S_IMODE((tmp_path / "text.txt").stat().st_mode)
        assert mode == 0o666 & ~umask == stat.S_IMODE((tmp_path / "other.txt").stat().st_mode)

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
    def test_a_replaced_file_keeps_its_permissions(self, tmp_path, mode):
        path = tmp_path / "text.txt"
        path.write_bytes(b"old")
        path.chmod(mode)
        write(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_a_link_stays_and_its_target_is_replaced(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "text.txt").write_bytes(b"old")
        (tmp_path / "link").symlink_to(tmp_path / "folder" / "text.txt")
        write(tmp_path / "link", b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "text.txt").read_bytes() == b"new"


class TestFileLock:
    def test_one_thread_at_a_time_although_the_file_is_removed(self, tmp_path):
        inside, most = 0, 0

        def work():
            nonlocal inside, most
            for _ in range(10):
                with file_lock(tmp_path / "lock"):
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0)
                    inside -= 1

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == 1
        assert os.listdir(tmp_path) == []

    def test_a_killed_process_releases_the_lock(self, tmp_path):
        program = (
            "import sys, time; from npllm.utils.files import file_lock\n"
            "with file_lock(sys.argv[1]):\n    print()\n    time.sleep(60)"
        )
        command = [sys.executable, "-uc", program, tmp_path / "lock"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent.parent) as process:
            process.stdout.readline()
            process.kill()
        with file_lock(tmp_path / "lock"):
            pass
        assert os.listdir(tmp_path) == []

    def test_a_file_with_content_is_not_a_lock_file(self, tmp_path):
        (tmp_path / "poetry.lock").write_text("content")
        with (
            pytest.raises(FileExistsError, match="poetry.lock is not empty, so it is not a lock file"),
            file_lock(tmp_path / "poetry.lock"),
        ):
            raise AssertionError("never reached")
        assert (tmp_path / "poetry.lock").read_text() == "content"

    def test_a_pipe_is_not_a_lock_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileError, match="must be a regular file"), file_lock(tmp_path / "pipe"):
            raise AssertionError("never reached")
        assert (tmp_path / "pipe").is_fifo()


def test_data_folder_of_a_checkout_and_of_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "npllm" / "utils" / "files.py"))
    assert files.data_folder() == tmp_path / "data"
    (tmp_path / "npllm" / "data").mkdir(parents=True)
    assert files.data_folder() == tmp_path / "npllm" / "data"


def test_a_pipe_a_folder_and_a_large_file_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(FileError, match="file has 5 bytes; it must have at most 4$"):
        read_regular_file(tmp_path / "file", 4)
    with pytest.raises(FileError, match="pipe is a pipe, a socket or a device; it must be a regular file$"):
        read_regular_file(tmp_path / "pipe", 5)
    with pytest.raises(IsADirectoryError, match="is a folder; it must be a file$"):
        read_regular_file(tmp_path, 5)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_regular_file(tmp_path / "other", 5)
