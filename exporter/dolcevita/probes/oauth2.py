"""Tokens for client credentials (RFC 6749, section 4.4), kept while they are valid."""

import json
import time
from base64 import b64encode
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote_plus, urlencode

from pydantic import ConfigDict, model_validator

from dolcevita.config import Strict
from dolcevita.probes.course import Broken
from dolcevita.probes.curl import Exchange, Request, Tls, exchange, shown
from dolcevita.probes.result import Reason
from dolcevita.probes.secret import read

EARLY = 10.0
"""Seconds before its end that a token is not used any more."""

LIFETIME = 60.0
"""Seconds that a token is kept when the server does not say how long it is valid."""

MOST_TOKENS = 256
MOST_ANSWER = 100_000


class Client(Strict):
    """Who asks for a token, and where."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    client_id: str
    client_secret: str | None = None
    client_secret_file: Path | None = None
    token_url: str
    scopes: tuple[str, ...] = ()
    endpoint_params: dict[str, str] = {}
    ca_file: Path | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("expected one of client_secret and client_secret_file")
        return self


class _Token(NamedTuple):
    text: str
    until: float


_tokens: OrderedDict[str, _Token] = OrderedDict()


def _key(client: Client) -> str:
    return client.model_dump_json()


def forget(client: Client | None) -> None:
    """A server did not accept the token: the next probe asks for a new one."""
    if client:
        _tokens.pop(_key(client), None)


async def token(client: Client, within: float) -> str:
    """A valid token, at the latest after `within` seconds. Raises Broken."""
    known = _tokens.get(_key(client))
    if known and known.until > time.monotonic():
        return known.text
    secret = read(client.client_secret_file) if client.client_secret_file else client.client_secret
    deadline = time.monotonic() + within
    form = {"grant_type": "client_credentials", **client.endpoint_params}
    if client.scopes:
        form["scope"] = " ".join(client.scopes)
    # Section 2.3.1: a server takes it as Basic; some only take it in the form.
    pair = f"{quote_plus(client.client_id)}:{quote_plus(secret or '')}"
    headers = [f"Authorization: Basic {b64encode(pair.encode()).decode()}"]
    answer, text = await _ask(client, form, headers, within)
    if answer.status in (400, 401) and (left := deadline - time.monotonic()) > 0:
        form |= {"client_id": client.client_id, "client_secret": secret or ""}
        answer, text = await _ask(client, form, [], left)
    found = _read(client, answer, text)
    _tokens[_key(client)] = found
    while len(_tokens) > MOST_TOKENS:
        _tokens.popitem(last=False)
    return found.text


async def _ask(
    client: Client, form: dict[str, str], headers: list[str], within: float
) -> tuple[Exchange, bytes]:
    body = bytearray()

    def take(piece: bytes) -> bool:
        body.extend(piece)
        return len(body) < MOST_ANSWER

    answer = await exchange(
        Request(
            url=client.token_url,
            timeout=within,
            connect_timeout=within,
            on_answer=lambda headers: take,
            method="POST",
            body=urlencode(form).encode(),
            headers=[*headers, "Accept: application/json"],
            tls=Tls(ca_file=client.ca_file, insecure=client.insecure),
            guarded=False,
        )
    )
    return answer, bytes(body)


def _read(client: Client, answer: Exchange, text: bytes) -> _Token:
    where = f"No token from {shown(client.token_url)}"
    if answer.failure:
        raise Broken(answer.failure.reason, f"{where}: {answer.failure.detail}")
    if answer.status != 200:
        raise Broken(Reason.STATUS, f"{where}: it answers with {answer.status}.")
    try:
        document = json.loads(text)
        token, lifetime = document["access_token"], float(document.get("expires_in", LIFETIME))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Broken(Reason.CONTENT, f"{where}: its answer holds none.") from None
    if not isinstance(token, str) or not token.isprintable():
        raise Broken(Reason.CONTENT, f"{where}: its answer holds none.")
    return _Token(token, time.monotonic() + max(0.0, lifetime - EARLY))
