"""Dovecot, Postfix and vsftpd as processes, on free ports, with a user marie to log in as."""

import getpass
import grp
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
import trustme

from waiting import free_port, until

USERNAME, PASSWORD = "marie", 'sésame, "ouvre\\toi"'


class Ports(NamedTuple):
    """Where a server listens: as it stands and with TLS from the begin; for logins of others."""

    plain: int
    secure: int
    auth: int
    log: Path


def needs(program: str) -> str:
    """The path of a server program; skips the test where it is not installed."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/postfix/sbin")
    if not path:
        pytest.skip(f"{program} is not installed")
    return path


@contextmanager
def running(command: Sequence[str | Path], log: Path, ports: Sequence[int]) -> Iterator[None]:
    """A process in the foreground, once it listens on all its ports."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        until(lambda: all(map(listens, ports)), lambda: f"ports {ports}: {log.read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    """Whether a connection to the port is accepted."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def home() -> Iterator[Path]:
    """A new folder that the servers' own users may reach; pytest's are for the tester only."""
    with TemporaryDirectory(prefix="server") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def dovecot(folder: Path, leaf: trustme.LeafCert, protocol: str) -> Iterator[Ports]:
    """A Dovecot for `imap` or `pop3`, which takes no login in clear text."""
    program = needs("dovecot")
    needs("doveconf")
    if not Path(f"/usr/lib/dovecot/{protocol}-login").exists():
        pytest.skip(f"dovecot-{protocol}d is not installed")
    folder.mkdir()
    pem = folder / "both.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    (folder / "users").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
    ports = Ports(free_port(), free_port(), free_port(), folder / "log")
    # Dovecot refuses to do these parts as root, and to change the user otherwise.
    as_root = os.getuid() == 0
    user, stranger = ("dovecot", "dovenull") if as_root else (getpass.getuser(),) * 2
    group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    (folder / "mail").mkdir()
    if as_root:
        shutil.chown(folder / "mail", user)
    (folder / "dovecot.conf").write_text(
        f"""
        base_dir = {folder}/run
        state_dir = {folder}/run
        log_path = {folder}/log
        protocols = {protocol}
        listen = 127.0.0.1
        default_internal_user = {user}
        default_login_user = {stranger}
        default_internal_group = {group}
        first_valid_uid = 1
        mail_location = maildir:{folder}/mail
        ssl = yes
        ssl_cert = <{pem}
        ssl_key = <{pem}
        disable_plaintext_auth = yes
        auth_failure_delay = 0
        passdb {{
          driver = passwd-file
          args = {folder}/users
        }}
        userdb {{
          driver = static
          args = uid={user} gid={group} home={folder}/mail
        }}
        service {protocol}-login {{
          chroot =
          inet_listener {protocol} {{
            port = {ports.plain}
          }}
          inet_listener {protocol}s {{
            port = {ports.secure}
          }}
        }}
        service anvil {{
          chroot =
          # Else a wrong login makes the next one wait.
          unix_listener anvil-auth-penalty {{
            mode = 0
          }}
        }}
        service stats {{
          chroot =
        }}
        service auth {{
          inet_listener {{
            address = 127.0.0.1
            port = {ports.auth}
          }}
        }}
        """
    )
    command = [program, "-F", "-c", folder / "dovecot.conf"]
    with running(command, folder / "output", ports[:3]):
        yield ports


@contextmanager
def postfix(folder: Path, leaf: trustme.LeafCert, auth: int) -> Iterator[Ports]:
    """A Postfix that asks the Dovecot at port `auth` about logins; it needs root."""
    program = needs("postfix")
    if os.getuid() != 0:
        pytest.skip("postfix runs as root only")
    folder.mkdir()
    pem = folder / "both.pem"
    ports = Ports(free_port(), free_port(), auth, folder / "log")
    for name in ("conf", "queue", "data"):
        (folder / name).mkdir()
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    shutil.chown(folder / "data", "postfix")
    (folder / "conf/main.cf").write_text(
        f"""
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mail.example.com
mydestination =
inet_interfaces = 127.0.0.1
smtpd_tls_chain_files = {pem}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth}
"""
    )
    (folder / "conf/master.cf").write_text(
        f"""
127.0.0.1:{ports.plain} inet n - n - - smtpd
127.0.0.1:{ports.secure} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""
    )
    (folder / "conf/dynamicmaps.cf").touch()
    with running([program, "-c", folder / "conf", "start-fg"], folder / "output", ports[:3]):
        try:
            yield ports
        finally:
            # What was started is a script, and the server not its child any more.
            subprocess.run([program, "-c", folder / "conf", "stop"], capture_output=True)


@contextmanager
def vsftpd(folder: Path, leaf: trustme.LeafCert | None, implicit: bool = False) -> Iterator[int]:
    """A vsftpd on a port, which is given; it lets `anonymous` in and nobody else, with no TLS
    where there is no certificate.
    """
    program = needs("vsftpd")
    if os.getuid() != 0:
        pytest.skip("vsftpd runs as root only")
    folder.mkdir()
    (folder / "empty").mkdir()
    (folder / "pub").mkdir()
    lines = ["ssl_enable=NO"]
    if leaf:
        leaf.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
        lines = [
            "ssl_enable=YES",
            "allow_anon_ssl=YES",
            f"rsa_cert_file={folder}/both.pem",
            f"implicit_ssl={'YES' if implicit else 'NO'}",
            "ssl_tlsv1=YES",
            "ssl_ciphers=HIGH",
        ]
    port = free_port()
    lines += [
        "listen=YES",
        "background=NO",
        "listen_address=127.0.0.1",
        f"listen_port={port}",
        "anonymous_enable=YES",
        "no_anon_password=NO",
        f"anon_root={folder}/pub",
        f"secure_chroot_dir={folder}/empty",
        "local_enable=NO",
        "write_enable=NO",
        "ftpd_banner=Files of marie",
        "seccomp_sandbox=NO",
    ]
    (folder / "vsftpd.conf").write_text("\n".join([*lines, ""]))
    with running([program, folder / "vsftpd.conf"], folder / "output", [port]):
        yield port
