"""A host with web sites on it: an nginx that is stopped and started."""

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from waiting import free_port, until


class Host:
    """One nginx on a port of its own; every path on it is a site that answers 200."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if not self.nginx:
            pytest.skip("no nginx on this machine to be the site")
        self.port = free_port()
        self.address = address
        self.url = f"http://{address}:{self.port}"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "nginx.conf").write_text(
            f"""
            daemon off; master_process off; pid {folder}/pid; error_log stderr;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                server {{
                    listen {address}:{self.port};
                    location / {{ return 200 "Add to cart"; }}
                }}
            }}
            """
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.nginx), "-c", str(self.folder / "nginx.conf")], stderr=log
            )
        until(self._answers, f"nginx on port {self.port}")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
            return True
        return False
