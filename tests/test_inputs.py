"""Files and folders that are read: what is none is named before anything is loaded."""

import os
from pathlib import Path

import pytest

from stableavatar_jax.errors import Mistake
from stableavatar_jax.inputs import check_directory, check_file, check_there


def test_what_is_no_file_or_no_folder(tmp_path):
    (tmp_path / "file").write_text("something")
    (tmp_path / "empty").write_text("")
    os.mkfifo(tmp_path / "pipe")
    check_file(tmp_path / "file")
    check_directory(tmp_path)
    for path, file, folder in (
        (tmp_path, "is a folder; name a file in it", ""),
        (tmp_path / "file", "", "is a file, and a folder is needed"),
        (tmp_path / "empty", "is empty", "is a file"),
        (tmp_path / "none", "no such file; do this", "no such folder; do this"),
        (tmp_path / "pipe", "is a pipe or a device", "is a pipe or a device"),
        (Path("/dev/null"), "is a pipe or a device", "is a pipe or a device"),
        (Path("https://example.org/a.wav"), "is an address", "is an address"),
        (Path("S3://bucket/model"), "is an address", "is an address"),
        (Path("-"), "piped in is not read", "piped in is not read"),
        (tmp_path / ("x" * 300), "File name too long", "File name too long"),
    ):
        for check, words in ((check_file, file), (check_directory, folder)):
            if words:
                with pytest.raises(Mistake, match=words):
                    check(path, "do this")


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("something")
    monkeypatch.setattr(os, "access", lambda path, wanted: False)  # nothing is refused to root
    for check, path in ((check_file, tmp_path / "file"), (check_directory, tmp_path), (check_there, tmp_path)):
        with pytest.raises(Mistake, match=f"{path}: may not be read"):
            check(path)


def test_a_name_that_looks_like_an_address_is_a_file_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab:").mkdir()
    (tmp_path / "ab:" / "c.wav").write_text("sound")
    check_file(Path("ab:/c.wav"))
