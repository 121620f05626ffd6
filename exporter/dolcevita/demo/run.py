"""`dolcevita demo`: chooses between Docker and native, and runs one evening beside any stack."""

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from dolcevita.config import UserError
from dolcevita.demo import docker, native
from dolcevita.demo.evening import COMPONENTS, Evening, Wishes
from dolcevita.demo.texts import of_environment
from dolcevita.stack import checks
from dolcevita.stack import docker as stack_docker
from dolcevita.stack.packages import find_programs
from dolcevita.stack.settings import read_settings
from dolcevita.stack.up import alone


def run(
    auto: bool, port: int, folder: Path = Path(), environ: Mapping[str, str] = os.environ
) -> None:
    """Run the demo with the configuration of the project in `folder`, on free ports.

    `auto` needs nobody at the buttons and ends with the story; else it ends with a signal. `port`
    is the page's, 0 for any free one. Raises UserError when it cannot run, and NotTrue when the
    story did not come true; nothing is left running.
    """
    settings = read_settings(folder, environ)
    if problems := [*checks.missing_files(settings)]:
        raise UserError("\n".join(problems))
    wishes = Wishes(auto, of_environment(environ))
    data = settings.data / "demo"
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(data):
        ports = _free_ports(*COMPONENTS, "shop", "page") | ({"page": port} if port else {})
        obstacle = "DOLCEVITA_RUNTIME asks for that"
        if settings.runtime != "native":
            evening = Evening(wishes, data, settings.folder, ports, docker.SHOP, docker.PHONES)
            stack = stack_docker.find(evening.settings, _say)
            if isinstance(stack, stack_docker.Stack):
                asyncio.run(docker.run(evening, stack))
                return
            if settings.runtime == "docker":
                raise UserError(f"DOLCEVITA_RUNTIME is docker, but {stack}")
            obstacle = stack
        _say(f"running native, without Docker: {obstacle}")
        programs = find_programs(settings.data, _say)
        shop, phones = (f"http://127.0.0.1:{ports[name]}" for name in ("shop", "page"))
        evening = Evening(wishes, data, settings.folder, ports, f"{shop}/", f"{phones}/phone")
        asyncio.run(native.run(evening, programs))


def _free_ports(*names: str) -> dict[str, int]:
    """A port of 127.0.0.1 for each name, no two the same, that nobody listens on now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: s.getsockname()[1] for name, s in zip(names, sockets, strict=True)}


def _say(line: str) -> None:
    print(line, flush=True)
