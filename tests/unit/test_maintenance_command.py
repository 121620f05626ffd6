"""What `dolcevita maintain` says to mistakes."""

import pytest
from typer.testing import CliRunner

from dolcevita.cli import app

SITES = "sites: [{name: shop, url: 'http://127.0.0.1:9/', host: srv1}]"
PEOPLE = """
providers: [{name: p, notify: [{email: p@example.com}]}]
owners: [{name: marie, timezone: Europe/Paris, notify: [{email: m@example.com}]}]
"""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["shopp", "--for", "2h", "--because", "x"], "no site and no host is named 'shopp': did"),
        (["shop", "--for", "soon", "--because", "x"], "--for: found 'soon', expected a duration"),
        (["shop", "--for", "2h"], 'say also --because "new theme"'),
        (["shop", "--because", "x"], "say also --for 2h"),
        (["shop", "--for", "2h", "--because", "x", "--from", "8pm"], "--from: found '8pm', exp"),
        (
            ["shop", "--for", "2h", "--because", "x", "--from", "2020-01-01 10:00"],
            "it would be over by now",
        ),
        (
            ["shop", "--for", "2h", "--because", "x", "--alertmanager", "http://127.0.0.1:9"],
            "Alertmanager on http://127.0.0.1:9 does not answer",
        ),
    ],
)
def test_a_mistake_is_told_in_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    run = CliRunner().invoke(app, ["maintain", *arguments])
    assert run.exit_code == 1
    assert sentence in run.output and "Traceback" not in run.output
