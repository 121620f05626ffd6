"""Heartbeats: a job calls /ping/TOKEN, and silence for longer than agreed is the failure.

What was heard is kept in memory only. After a restart there is no verdict until the next ping;
the rules in prometheus/rules/heartbeat.yml go on from the ping that Prometheus remembers.
"""

import hmac
import logging
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from dolcevita.config import Duration, Strict, format_duration
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Reason, Result, Sample

log = logging.getLogger(__name__)

LONGEST = 60 * 86400.0
"""Seconds of period and grace together: less than the 90 days that the rules look back."""

TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")


class Options(Strict):
    """What was agreed with the job. One of `token` and `token_file` is needed."""

    period: Duration = Field(description="The job reports at least this often.")
    grace: Duration = Field(
        default=300.0, description="How much later than `period` a ping may come."
    )
    token: str | None = Field(
        default=None,
        repr=False,
        description="The secret of the job's URL, /ping/TOKEN: 16 or more letters, digits, - or _.",
    )
    token_file: Path | None = Field(default=None, description="A file that holds the token.")

    @field_validator("token", mode="before")
    @classmethod
    def _fits_a_url(cls, token: object) -> object:
        # Whatever was found may be a secret: it is not shown.
        if token is not None and not isinstance(token, str):
            raise ValueError(f"found no text, {_EXPECTED}")
        if token is not None and not TOKEN.fullmatch(token):
            raise ValueError(f"found {len(token)} characters, {_EXPECTED}")
        return token

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("found both or neither of token and token_file, expected one of them")
        if self.token_file is not None:
            try:
                token = _read(self.token_file)
            except (OSError, UnicodeError) as error:
                cause = getattr(error, "strerror", None) or "it is not a text"
                raise ValueError(
                    f"found token_file: {self.token_file}, which cannot be read ({cause})"
                ) from None
            if not TOKEN.fullmatch(token):
                raise ValueError(f"found {len(token)} characters in {self.token_file}, {_EXPECTED}")
        if self.period + self.grace > LONGEST:
            together = format_duration(self.period + self.grace)
            raise ValueError(
                f"found a period and grace of {together} together, expected 60d at most"
            )
        return self


_EXPECTED = (
    "expected a token of 16 to 128 letters, digits, - and _: `openssl rand -hex 16` makes one"
)

HELP = {
    "heartbeat_grace_seconds": "How much later than its period a ping may come",
    "heartbeat_last_ping_timestamp_seconds": (
        "Unix time of the last ping; absent until one is heard after a restart of the exporter"
    ),
    "heartbeat_period_seconds": "How often the job reports at least",
}

_pings: dict[str | Path, float] = {}
"""Unix time of the last ping, by the token or the path of its file."""


def ping(heartbeats: Iterable[Options], token: str) -> bool:
    """Note that a job called with `token`; False if none of the heartbeats has it."""
    known = False
    for options in heartbeats:
        expected = _token(options)
        if expected and hmac.compare_digest(expected.encode(), token.encode()):
            _pings[_key(options)] = time.time()
            known = True
    return known


async def probe(target: Target[Options, Expectations], budget: float) -> Result:
    """Whether the last ping is younger than period and grace; not known before the first."""
    options = target.options
    samples = [
        Sample("heartbeat_period_seconds", options.period),
        Sample("heartbeat_grace_seconds", options.grace),
    ]
    last = _pings.get(_key(options))
    if last is None:
        detail = "No ping since the exporter started; Prometheus goes by the last one it knows."
        return Result(success=True, known=False, detail=detail, samples=tuple(samples))
    samples.append(Sample("heartbeat_last_ping_timestamp_seconds", last))
    late = time.time() - last - options.period - options.grace
    when = datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if late > 0:
        detail = f"The last ping came at {when}; the next one is {late:.0f} s late."
        return Result(success=False, reason=Reason.MISSED, detail=detail, samples=tuple(samples))
    return Result(success=True, detail=f"The last ping came at {when}.", samples=tuple(samples))


def _key(options: Options) -> str | Path:
    key = options.token or options.token_file
    assert key, "the model lets in no heartbeat without a token"
    return key


def _token(options: Options) -> str:
    """The token, '' where its file cannot be read any more."""
    if options.token_file is None:
        return options.token or ""
    try:
        return _read(options.token_file)
    except (OSError, UnicodeError):
        log.warning("The token file %s cannot be read: its pings are refused.", options.token_file)
        return ""


def _read(path: Path) -> str:
    return path.read_text().strip()


KIND = Kind("heartbeat", ("heartbeat",), Options, Expectations, probe, HELP, again=False)
