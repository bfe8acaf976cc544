"""A file or folder is there whole or not at all, and nobody's work is replaced unasked."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from workbench.errors import UsageProblem
from workbench.formats.whole import check_free, whole_file, whole_folder

SAVED = re.compile(r"state\.json|README\.md")


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the kernel refuses the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_fails_leaves_what_was_there(tmp_path, error):
    out = tmp_path / "out.json"
    out.write_text("what was there")

    def write() -> None:
        with whole_file(out) as scratch:
            scratch.write_text("half")
            assert scratch.suffix == ".json"
            raise error

    with pytest.raises(error):
        write()
    assert out.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_what_was_there(tmp_path, error):
    out = tmp_path / "out"
    out.mkdir()
    (out / "state.json").write_text("what was there")

    def write() -> None:
        with whole_folder(out) as scratch:
            (scratch / "state.json").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert (out / "state.json").read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_cannot_take_its_place_gives_it_back(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "state.json").write_text("what was there")
    with pytest.raises(UsageProblem, match="cannot write here"), whole_folder(out) as scratch:
        scratch.rmdir()  # as another program might
    assert (out / "state.json").read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_takes_the_place_of_another(tmp_path):
    out = tmp_path / "out"
    for text in ("first", "second"):
        with whole_folder(out) as scratch:
            (scratch / text).write_text(text)
    assert [path.name for path in out.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_to_is_told(tmp_path):
    with pytest.raises(UsageProblem, match="No such file or directory"), whole_file(tmp_path / "no" / "out") as scratch:
        scratch.write_text("")
    with (
        small_disk(1000),
        pytest.raises(UsageProblem, match="cannot write here: File too large"),
        whole_file(tmp_path / "out") as scratch,
    ):
        scratch.write_text("a" * 2000)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_so(tmp_path):
    with pytest.raises(UsageProblem, match="the disk is full"), whole_file(tmp_path / "out"):
        Path("/dev/full").write_text("more")  # the kernel's own: every write fails as on a full disk
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_told(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    empty, saved, other = (tmp_path / name for name in ("empty", "saved", "other"))
    for folder in (empty, saved, other):
        folder.mkdir()
    (saved / "state.json").write_text("")
    (other / "thesis.tex").write_text("")

    def free(out: Path, *, force: bool = False, folder: bool = False) -> bool:
        try:
            check_free(out, force=force, folder_of=SAVED if folder else None)
        except UsageProblem:
            return False
        return True

    assert free(tmp_path / "new")
    assert free(tmp_path / "new", folder=True)
    assert [free(file), free(file, force=True), free(file, force=True, folder=True)] == [False, True, False]
    assert [free(saved, folder=True), free(saved, force=True, folder=True)] == [False, True]
    assert free(empty, folder=True)
    assert not free(other, force=True, folder=True)
    assert not free(saved, force=True)
    assert not free(tmp_path / "link")
    assert not free(Path("/dev/null"), force=True)
