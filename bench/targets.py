"""The sites: an nginx with HTTP and HTTPS on one core, and the CAs that whoever asks trusts."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from bench.processes import running
from dolcevita.probes.curl import ca_bundle
from waiting import free_port


@dataclass(frozen=True)
class Targets:
    """Every path is a site. `ca_file` has the system's CAs and the one of the sites."""

    http: str
    https: str
    ca_file: Path


@contextmanager
def serving(folder: Path, cores: Sequence[int] = ()) -> Iterator[Targets]:
    """The sites, with files in `folder`. A certificate comes with an intermediate, as usual."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if not nginx:
        raise RuntimeError("there is no nginx on this machine to be the sites: apt install nginx")
    ca = trustme.CA()
    certificate = ca.create_child_ca().issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "site.pem")
    trusted = folder / "cas.pem"
    trusted.write_bytes(Path(ca_bundle()).read_bytes() + ca.cert_pem.bytes())
    http, https = free_port(), free_port()
    (folder / "nginx.conf").write_text(
        f"""
        daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
        events {{ worker_connections 8192; }}
        http {{
            access_log off;
            client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate {folder}/site.pem; ssl_certificate_key {folder}/site.pem;
            server {{
                listen 127.0.0.1:{http} backlog=4096;
                listen 127.0.0.1:{https} ssl backlog=4096;
                location / {{ return 200 "Add to cart"; }}
            }}
        }}
        """
    )
    targets = Targets(f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}", trusted)
    command = (nginx, "-c", folder / "nginx.conf")
    with running(command, f"{targets.http}/", folder / "nginx.log", cores):
        yield targets
