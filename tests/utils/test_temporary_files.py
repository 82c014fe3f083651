import os
import subprocess
import sys
from pathlib import Path

import pytest

from npllm.utils.files import atomic_write
from npllm.utils.temporary_files import temporary_folder

ROOT = Path(__file__).parent.parent.parent
WRITES = """
import sys, time
from npllm.utils.files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print(flush=True)
    time.sleep(60)
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")


def test_a_temporary_file_is_removed_only_when_its_process_is_dead(tmp_path):
    command = [sys.executable, "-c", WRITES, tmp_path / "text"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.readline()
        for number in (1, 2):
            with atomic_write(tmp_path / "other") as file:
                file.write(b"whole")
            assert len(os.listdir(tmp_path)) == 2, f"the temporary file of a living process, and other ({number})"
        process.kill()
    with atomic_write(tmp_path / "other") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == ["other"]


def test_files_of_other_names_links_and_pipes_are_left_alone(tmp_path):
    names = [".0123456789abcdef.tmp", ".npllm-0123.tmp", "npllm-0123456789abcdef.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".npllm-0123456789abcdef.tmp").symlink_to(tmp_path / names[0])
    with atomic_write(tmp_path / "text") as file:
        file.write(b"whole")
    assert len(os.listdir(tmp_path)) == 5


def test_a_temporary_folder_is_removed_at_the_end_or_when_its_process_is_dead(tmp_path):
    (tmp_path / ".npllm-0123456789abcdef.tmp").mkdir()
    (tmp_path / ".npllm-0123456789abcdef.tmp" / "file").write_bytes(b"of a dead process")
    with temporary_folder(tmp_path) as first, temporary_folder(tmp_path) as second:
        (first / "file").write_bytes(b"half")
        assert {*tmp_path.iterdir()} == {first, second}, "those of a living process"
        second.rename(tmp_path / "renamed")
    assert os.listdir(tmp_path) == ["renamed"]


def test_a_file_that_was_readable_by_the_owner_only_is_never_readable_by_others(tmp_path):
    (tmp_path / "secret").write_bytes(b"old")
    (tmp_path / "secret").chmod(0o600)
    with atomic_write(tmp_path / "secret") as file:
        (temporary,) = set(tmp_path.iterdir()) - {tmp_path / "secret"}
        assert temporary.stat().st_mode & 0o777 == 0o600
        file.write(b"new")


def test_the_replaced_file_is_kept_under_another_name(tmp_path):
    for number in range(4):
        with atomic_write(tmp_path / "text", keep_as=tmp_path / "before") as file:
            file.write(b"%d" % number)
    assert ((tmp_path / "text").read_bytes(), (tmp_path / "before").read_bytes()) == (b"3", b"2")
    assert sorted(os.listdir(tmp_path)) == ["before", "text"]


def test_without_hard_links_the_replaced_file_is_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("no hard links")

    monkeypatch.setattr(os, "link", refused)
    test_the_replaced_file_is_kept_under_another_name(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")
def test_a_full_disk_names_the_file(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/text'"),
        atomic_write(tmp_path / "text"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert os.listdir(tmp_path) == []
