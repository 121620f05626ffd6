"""The room on the disk that the stack writes to."""

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dolcevita.exporter import disk


@pytest.mark.parametrize("folder", [".", "not/there/yet"])
def test_room_is_that_of_the_data_folder_even_before_it_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    monkeypatch.setenv("DOLCEVITA_DATA", str(tmp_path / folder))
    registry = CollectorRegistry()
    disk.register(registry)
    room = os.statvfs(tmp_path)
    free = registry.get_sample_value("dolcevita_data_free_bytes")
    assert free == pytest.approx(room.f_bavail * room.f_frsize, abs=1e9)
    assert registry.get_sample_value("dolcevita_data_size_bytes") == room.f_blocks * room.f_frsize
