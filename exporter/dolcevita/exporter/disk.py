"""How much room is left on the disk that the stack writes to."""

import os
import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

DEFAULT = ".stack"


def register(registry: CollectorRegistry) -> None:
    """Publish the room on the disk of DOLCEVITA_DATA: the folder that Prometheus fills."""
    folder = Path(os.environ.get("DOLCEVITA_DATA") or DEFAULT)
    Gauge(
        "dolcevita_data_free_bytes",
        "Bytes that may still be written to the disk of the data folder",
        registry=registry,
    ).set_function(lambda: shutil.disk_usage(_there(folder)).free)
    Gauge(
        "dolcevita_data_size_bytes",
        "Bytes of the disk of the data folder",
        registry=registry,
    ).set_function(lambda: shutil.disk_usage(_there(folder)).total)


def _there(folder: Path) -> Path:
    """The folder, or where it would be made."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
