"""Names to addresses by the system's resolver, without one name ever waiting for another.

libcurl and asyncio both resolve in a pool of few threads (20 and fewer): a dozen names whose
servers are dead fill it and every other probe times out. Here each lookup has its own thread,
and a daemon, so that a lookup that hangs holds up neither other probes nor the program's end.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import lru_cache
from threading import Thread


class Unresolved(Exception):
    """The name has no address; the text says why, as a sentence."""


class Forbidden(Unresolved):
    """The addresses may not be connected to; the text says why, as a sentence."""


GUARD: ContextVar[Callable[[str, Sequence[str]], None] | None] = ContextVar("GUARD", default=None)
"""What looks at each host and its addresses before anything connects to them.

It may raise Forbidden. Set around a probe whose target a caller names: as every prober comes
by here for every address, it holds after redirects and for names whose address changes too.
"""


_CAUSES = {
    socket.EAI_NONAME: "The name {host} does not exist.",
    socket.EAI_NODATA: "The name {host} has no address.",
    socket.EAI_AGAIN: "No name server could be asked for {host}.",
    socket.EAI_FAIL: "The name servers of {host} failed.",
}


async def resolve(host: str, within: float, guarded: bool = True) -> list[str]:
    """The IP addresses of an ASCII host name in the system's order of preference, at least one.

    An address resolves to itself. Raises Unresolved, at the latest after `within` seconds, and
    Forbidden where the guard does; hosts of the configuration's own need none.
    """
    found = [host] if _is_address(host) else await _look_up_beside(host, within)
    if guarded:
        check(host, found)
    return found


def check(host: str, addresses: Sequence[str] = ()) -> None:
    """Ask the guard about a host whose addresses are known, or that a proxy will look up.

    Raises Forbidden.
    """
    guard = GUARD.get()
    if guard:
        guard(host, addresses or ([host] if _is_address(host) else []))


async def _look_up_beside(host: str, within: float) -> list[str]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], cause: str) -> None:
        if answer.done():
            return
        if cause:
            answer.set_exception(Unresolved(cause))
        else:
            answer.set_result(addresses)

    def look_up() -> None:
        addresses, cause = _look_up(host)
        try:
            loop.call_soon_threadsafe(settle, addresses, cause)
        except RuntimeError:
            return  # the loop was closed meanwhile: nobody waits any more

    Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        async with asyncio.timeout(within):
            return await answer
    except TimeoutError:
        raise Unresolved(f"No answer from a name server for {host} in {within:.1f} s.") from None


@lru_cache(maxsize=4096)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str) -> tuple[list[str], str]:
    """Addresses and an empty cause, or no address and the cause."""
    try:
        # As bytes: Python's IDNA codec raises UnicodeError for a label too long for it.
        found = socket.getaddrinfo(host.encode("ascii"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        cause = _CAUSES.get(error.errno or 0, "The name {host} cannot be resolved: {words}.")
        return [], cause.format(host=host, words=error.strerror)
    except (OSError, UnicodeError) as error:
        return [], f"The name {host} cannot be resolved: {error}."
    return list(dict.fromkeys(str(entry[4][0]) for entry in found)), ""
