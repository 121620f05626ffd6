"""Pages that answer 200 and are ruined all the same, from real servers."""

import asyncio
import ssl
import time

import pytest
import trustme

from dolcevita.config import ConfigError, load
from dolcevita.probes import KINDS, Reason, Result, Target, attempts, markup
from dolcevita.probes import page as kind
from sites import files
from webserver import closed_port, has, page, routes, sample, serving, silence
from webserver import run as run_loop


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(kind, "SECOND_LOOK", 0.05)


def run(scenario):
    async def whole():
        try:
            return await scenario
        finally:
            await kind.KIND.close()

    return run_loop(whole())


def html(body: str, head: str = "", **headers: str):
    text = f"<!doctype html><html><head><title>Shop</title>{head}</head><body>{body}</body></html>"
    return page(text.encode(), **{"Content_Type": "text/html; charset=utf-8", **headers})


class Site:
    """A server of paths, others 404, that notes what it was asked for."""

    def __init__(self, paths):
        self.paths = paths
        self.asked: list[str] = []

    async def __call__(self, request, writer):
        path = request.split(b" ")[1].decode()
        self.asked.append(path)
        await self.paths.get(path, page(b"", 404))(request, writer)


async def settled(url: str, options=None, budget=5.0, **expect) -> Result:
    target = Target(url, kind.Options(**(options or {})), kind.Expect(**expect))
    await kind.settle(target, 15.0)
    return await attempts.probe(kind.KIND, target, budget)


def seen(answer, options=None, tls: trustme.CA | None = None, **expect) -> Result:
    """The verdict on the page at / once its assets and links are checked."""

    async def scenario():
        context, given, scheme = None, dict(options or {}), "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.issue_cert("localhost").configure_cert(context)
            given, scheme = {"ca_file": str(tls.file), **given}, "https"
        async with serving(answer, context) as port:
            return await settled(f"page+{scheme}://localhost:{port}/", given, **expect)

    return run(scenario())


def test_a_page_as_it_should_be_is_fine_and_measured():
    site = Site({"/": html("<img src=a.png><a href='/b'>b</a>"), "/a.png": page(), "/b": page()})
    result = seen(site)
    assert result.success, result.detail
    assert sample(result, "probe_page_indexable") == 1
    assert sample(result, "probe_page_mixed_content") == 0
    assert sample(result, "probe_page_links_checked") == 2
    assert sample(result, "probe_page_links_broken") == 0
    assert 0 <= sample(result, "probe_page_links_age_seconds") < 10
    assert sample(result, "probe_page_bytes") > 100
    assert sample(result, "probe_page_security_header", header="referrer-policy") == 0
    assert not has(result, "probe_ssl_earliest_cert_expiry")
    assert result.facts["title"] == "Shop"


# ---- Search engines -------------------------------------------------------------------------

NOINDEX = [
    (html("", '<META content="NoIndex, nofollow" name=Robots>'), "meta element"),
    (html("", '<meta name="googlebot" content="none">'), "meta element"),
    (html("", X_Robots_Tag="noindex"), "X-Robots-Tag says 'noindex'"),
    (html("", X_Robots_Tag="max-snippet: -1, NOINDEX"), "X-Robots-Tag"),
    (html("", X_Robots_Tag="Googlebot: noindex"), "X-Robots-Tag"),
]


@pytest.mark.parametrize(("answer", "words"), NOINDEX)
def test_a_page_that_search_engines_may_not_list_fails(answer, words):
    result = seen(Site({"/": answer}))
    assert result.reason is Reason.CONTENT
    assert words in result.detail
    assert sample(result, "probe_page_indexable") == 0


@pytest.mark.parametrize(
    "answer",
    [
        html("", '<meta name="robots" content="index, follow">'),
        html("", X_Robots_Tag="otherbot: noindex"),
        html("", X_Robots_Tag="nofollow"),
        html('<p>name="robots" content="noindex"</p>'),
        html("<!-- <meta name=robots content=noindex> -->"),
    ],
)
def test_a_page_that_they_may_list_is_fine(answer):
    result = seen(Site({"/": answer}))
    assert result.success, result.detail


def test_a_page_that_must_not_be_listed():
    assert seen(Site({"/": NOINDEX[0][0]}), indexable=False).success
    result = seen(Site({"/": html("")}), indexable=False)
    assert "may list the page, and should not" in result.detail
    assert seen(Site({"/": NOINDEX[0][0]}), indexable=None).success


@pytest.mark.parametrize(
    ("robots", "fine"),
    [
        (page(b"User-agent: *\nDisallow: /\n"), False),
        (page(b"User-agent: Googlebot\nDisallow: /\n\nUser-agent: *\nAllow: /\n"), False),
        (page(b"", 503), False),
        (page(b"User-agent: BadBot\nDisallow: /\n"), True),
        (page(b"User-agent: *\nDisallow: /admin\n"), True),
        (page(b"", 404), True),
        (page(b"\xff\xfe" * 5000), True),
    ],
)
def test_a_robots_txt_that_disallows_all_fails(robots, fine):
    result = seen(Site({"/": html(""), "/robots.txt": robots}))
    assert result.success == fine, result.detail
    assert sample(result, "probe_page_indexable") == fine
    if not fine:
        assert result.reason is Reason.CONTENT and "/robots.txt" in result.detail


# ---- Headers and mixed content --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("strict-transport-security", "max-age=31536000; includeSubDomains", ""),
        ("strict-transport-security", "max-age=300", "max-age below half a year"),
        ("strict-transport-security", "includeSubDomains", "has no max-age"),
        ("content-security-policy", "default-src 'self'", ""),
        ("content-security-policy", "script-src 'self' 'unsafe-inline'", "inline scripts"),
        ("content-security-policy", "script-src 'nonce-abc' 'unsafe-inline'", ""),
        ("content-security-policy", "default-src 'self'; script-src *", "scripts from *"),
        ("content-security-policy", "img-src 'self'", "scripts from everywhere"),
        ("x-content-type-options", "nosniff", ""),
        ("x-content-type-options", "sniff", "is not 'nosniff'"),
        ("x-frame-options", "SAMEORIGIN", ""),
        ("x-frame-options", "ALLOWALL", "neither DENY nor SAMEORIGIN"),
        ("referrer-policy", "no-referrer", ""),
        ("referrer-policy", "unsafe-url", "unsafe-url"),
    ],
)
def test_security_headers_are_judged_and_fail_where_they_are_expected(ca, name, value, fault):
    answer = html("", **{name.replace("-", "_"): value})
    result = seen(Site({"/": answer}), tls=ca, security_headers=name)
    assert sample(result, "probe_page_security_header", header=name) == (not fault)
    assert result.success == (not fault), result.detail
    if fault:
        assert result.reason is Reason.CONTENT
        assert result.detail.startswith(f"The header {name}") and fault in result.detail
    assert seen(Site({"/": answer}), tls=ca).success, "none is expected by default"


def test_a_security_header_that_is_not_sent_fails_where_it_is_expected(ca):
    expected = ["x-content-type-options", "content-security-policy"]
    answer = html("", X_Content_Type_Options="nosniff")
    result = seen(Site({"/": answer}), tls=ca, security_headers=expected)
    assert result.detail == "The header content-security-policy is not sent."


def test_a_policy_against_framing_stands_for_x_frame_options():
    good = html("", Content_Security_Policy="frame-ancestors 'none'")
    assert seen(Site({"/": good}), security_headers="x-frame-options").success
    weak = html("", Content_Security_Policy="frame-ancestors *")
    assert "every site" in seen(Site({"/": weak}), security_headers="x-frame-options").detail


@pytest.mark.parametrize(
    "part",
    [
        "<script src='http://cdn.example/a.js'></script>",
        "<img src='http://cdn.example/a.png'>",
        "<img srcset='/a.png 1x, http://cdn.example/b.png 2x'>",
        "<form action='http://shop.example/buy'></form>",
        "<base href='http://shop.example/'><iframe src='frame'></iframe>",
    ],
)
def test_parts_over_http_in_a_page_over_https_fail(ca, part):
    result = seen(Site({"/": html(part)}), {"links": 0}, ca)
    assert result.reason is Reason.CONTENT
    assert "parts over http: http://" in result.detail
    assert sample(result, "probe_page_mixed_content") == 1
    assert seen(Site({"/": html(part)}), {"links": 0}, ca, mixed_content=None).success
    assert seen(Site({"/": html(part)}), {"links": 0}).success, "a page over http may"


def test_a_link_to_http_is_no_part_of_the_page(ca):
    result = seen(Site({"/": html("<a href='http://other.example/'>x</a>")}), tls=ca)
    assert result.success
    assert sample(result, "probe_ssl_earliest_cert_expiry") > time.time()


# ---- Assets and links -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "<img src='/gone'>",
        "<script src=/gone></script>",
        "<a href='gone#part'>x</a>",
        "<video poster='/gone'></video>",
        "<img srcset='/gone 2x'>",
        "<a href=/gone-too>x</a>",
    ],
)
def test_a_broken_asset_or_link_fails(body):
    site = Site({"/": html(body), "/gone-too": page(b"", 500)})
    result = seen(site)
    assert result.reason is Reason.CONTENT
    assert "refers to what is broken" in result.detail and "/gone" in result.detail
    assert sample(result, "probe_page_links_broken") == 1
    assert seen(Site({"/": html(body)}), broken=1).success
    assert seen(Site({"/": html(body)}), broken=None).success


def test_a_style_sheet_in_the_head_is_an_asset():
    result = seen(Site({"/": html("", "<link rel=stylesheet href=style.css>")}))
    assert "style.css (404)" in result.detail


@pytest.mark.parametrize("status", [401, 403, 405, 429])
def test_what_is_not_for_us_is_not_broken(status):
    site = Site({"/": html("<a href=/private>x</a>"), "/private": page(b"", status)})
    assert seen(site).success
    assert "/private" in site.asked


def test_what_fails_once_is_not_broken():
    times = 0

    async def first_fails(request, writer):
        nonlocal times
        times += 1
        await page(b"", 500 if times == 1 else 200)(request, writer)

    assert seen(Site({"/": html("<img src=/a>"), "/a": first_fails})).success
    assert times == 2


def test_an_asset_that_does_not_answer_is_broken_and_delays_no_probe(monkeypatch):
    monkeypatch.setattr(kind, "CHECK", 0.5)

    async def scenario():
        async with serving(Site({"/": html("<img src=/mute>"), "/mute": silence})) as port:
            url = f"page+http://localhost:{port}/"
            target = Target(url, kind.Options(), kind.Expect())
            begin = time.monotonic()
            first = await kind.probe(target, 5.0)
            took = time.monotonic() - begin
            return first, took, await settled(url)

    first, took, then = run(scenario())
    assert first.success and took < 0.4
    assert not has(first, "probe_page_links_broken")
    assert "/mute (localhost port" in then.detail and "does not answer in time" in then.detail


def test_an_asset_on_a_public_name_that_does_not_exist_is_broken():
    result = seen(
        Site({"/": html("<script src='http://cdn.does.not.exist.invalid/a.js'></script>")})
    )
    assert "cdn.does.not.exist.invalid" in result.detail


def test_a_page_does_not_make_this_machine_call_its_neighbours():
    async def scenario():
        inner = Site({})
        async with serving(inner) as port:
            away = page(b"", 302, Location=f"http://127.0.0.1:{port}/moved")
            body = (
                f"<img src='http://127.0.0.1:{port}/secret'><img src='http://[::1]:{port}/6'>"
                "<img src='http://169.254.169.254/latest/meta-data/'><img src=/away>"
            )
            async with serving(Site({"/": html(body), "/away": away})) as outer:
                return inner.asked, await settled(f"page+http://localhost:{outer}/")

    asked, result = run(scenario())
    assert asked == []
    assert sample(result, "probe_page_links_checked") == 4
    assert sample(result, "probe_page_links_broken") == 0


def test_robots_rules_and_nofollow_are_heeded_and_other_sites_left_alone():
    body = """
    <a href=/cart/add rel=nofollow>x</a> <a href=/logout>x</a> <a href=/fine>x</a>
    <a href=mailto:a@b.example>x</a> <a href='http://other.example/'>x</a> <a href='http://['>x</a>
    <a href='http://user:pass@localhost/'>x</a> <a href=#top>x</a> <a href=/fine#twice>x</a>
    """
    robots = page(b"User-agent: *\nDisallow: /logout\n")
    site = Site({"/": html(body), "/robots.txt": robots, "/fine": page()})
    result = seen(site)
    assert result.success, result.detail
    assert set(site.asked) == {"/", "/robots.txt", "/fine"}
    assert site.asked.count("/fine") == 1


def test_no_more_links_than_asked_for_and_few_at_a_time():
    most = now = 0

    async def slow(request, writer):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        await page()(request, writer)
        now -= 1

    links = {f"/{i}": slow for i in range(40)}
    body = "".join(f"<a href={path}>x</a>" for path in links)
    result = seen(Site({"/": html(body), **links}), {"links": 12})
    assert sample(result, "probe_page_links_checked") == 12
    assert most == kind.CHECKS_AT_ONCE


def test_links_are_checked_once_in_a_while_not_at_each_probe():
    site = Site({"/": html("<img src=/a>"), "/a": page()})

    async def scenario():
        async with serving(site) as port:
            for _ in range(5):
                await settled(f"page+http://localhost:{port}/")

    run(scenario())
    assert site.asked.count("/a") == 1


# ---- Fingerprints ---------------------------------------------------------------------------


def prints(body: str, head: str = "") -> dict[str, float]:
    parts = ["title", "scripts", "text", "structure", "body"]
    result = seen(Site({"/": html(body, head)}), {"fingerprint": parts, "links": 0})
    return {s.labels["part"]: s.value for s in result.samples if s.name == "probe_page_fingerprint"}


@pytest.mark.parametrize(
    ("other", "changed"),
    [
        ("<p class=x>Add to cart</p><script src=/v2.js></script>", {"body"}),
        ("<p>Add\n   to cart</p><script src=/v1.js></script>", {"body"}),
        ("<p>Sold out</p><script src=/v1.js></script>", {"body", "text"}),
        ("<div>Add to cart</div><script src=/v1.js></script>", {"body", "structure"}),
        (
            "<p>Add to cart</p><script src=https://skimmer.example/v1.js></script>",
            {"body", "scripts"},
        ),
    ],
)
def test_a_fingerprint_changes_with_its_part_alone(other, changed):
    before = prints("<p>Add to cart</p><script src=/v1.js></script>")
    after = prints(other)
    assert {part for part in before if before[part] != after[part]} == changed
    assert all(value == int(value) < 2**48 for value in before.values())


def test_a_defaced_title_is_seen_and_titles_of_pictures_are_not():
    before = prints("<svg><title>Cart</title></svg>")
    assert before["title"] == prints("<svg><title>Basket</title></svg>")["title"]
    result = seen(Site({"/": page(b"<title>Owned</title>", Content_Type="text/html")}))
    (title,) = [s for s in result.samples if s.labels.get("part") == "title"]
    assert title.value != before["title"]


def test_the_text_is_the_same_wherever_the_parser_was_fed():
    words = "word " * 20_000
    plain = markup.read(f"<p>{words}", "http://e/", 5)
    shifted = markup.read(f"<p class='{'x' * 7}'>{words}", "http://e/", 5)
    assert plain.text == shifted.text


def test_what_is_no_html_is_fine_and_fingerprinted():
    result = seen(Site({"/": page(b"%PDF", Content_Type="application/pdf")}))
    assert result.success
    assert has(result, "probe_page_fingerprint")


# ---- Failures and hostile pages -------------------------------------------------------------


def test_another_status_than_2xx_fails():
    result = seen(Site({"/": page(b"", 500)}))
    assert result.reason is Reason.STATUS
    assert sample(result, "probe_http_status_code") == 500
    assert not has(result, "probe_page_indexable")


def test_redirects_are_followed_and_the_last_page_counts():
    site = Site({"/": page(b"", 302, Location="/home"), "/home": NOINDEX[0][0]})
    assert "noindex" in seen(site).detail
    loop = Site({"/": page(b"", 302, Location="/")})
    assert seen(loop).reason is Reason.REDIRECT


def test_headers_go_to_the_sites_own_origin_only():
    heads: list[bytes] = []

    async def scenario():
        async def note(request, writer):
            heads.append(request)
            await html("<img src=/a.png>")(request, writer)

        async with serving(note) as elsewhere:
            away = page(b"", 302, Location=f"http://localhost:{elsewhere}/")

            async def first(request, writer):
                heads.append(request)
                await away(request, writer)

            async with serving(first) as port:
                options = {"headers": {"Authorization": "Bearer hunter2"}}
                return await settled(f"page+http://localhost:{port}/", options)

    result = run(scenario())
    assert result.success, result.detail
    assert b"Bearer hunter2" in heads[0]
    assert len(heads) > 3 and "hunter2" not in str(result)
    sent = [head for head in heads if b"hunter2" in head]
    assert len(sent) == 2, "once for the sweep, once for the probe"


def test_a_server_that_refuses_or_is_mute_fails_in_time():
    with closed_port() as port:
        assert run(settled(f"page+http://127.0.0.1:{port}/")).reason is Reason.CONNECT

    async def scenario():
        async with serving(silence) as port:
            target = Target(f"page+http://127.0.0.1:{port}/", kind.Options(), kind.Expect())
            begin = time.monotonic()
            return await attempts.probe(kind.KIND, target, 0.8), time.monotonic() - begin

    result, took = run(scenario())
    assert result.reason is Reason.TIMEOUT and took < 1.2


def test_an_untrusted_certificate_fails(ca):
    result = seen(Site({"/": html("")}), {"ca_file": None}, ca)
    assert result.reason is Reason.CERTIFICATE


@pytest.mark.parametrize(
    "body",
    [
        b"<a " * 300_000,
        b"<" * 900_000,
        b"<!--" * 200_000,
        b"<template>" * 90_000,
        b"\xff" * 2_000_000,
    ],
)
def test_a_hostile_page_is_read_in_time(body, monkeypatch):
    monkeypatch.setattr(kind, "PARSING", 0.5)

    async def scenario():
        answer = page(body, Content_Type="text/html")
        async with serving(Site({"/": answer})) as port:
            target = Target(f"page+http://127.0.0.1:{port}/", kind.Options(links=0), kind.Expect())
            begin = time.monotonic()
            return await kind.probe(target, 3.0), time.monotonic() - begin

    result, took = run(scenario())
    assert sample(result, "probe_page_bytes") == len(body)
    assert took < 2.5


def test_a_page_that_hangs_while_parsed_delays_no_other(monkeypatch):
    async def scenario():
        hostile, fine = page(b"<a " * 300_000, Content_Type="text/html"), html("")
        async with serving(routes({"/bad": hostile, "/": fine})) as port:
            bad = Target(f"page+http://localhost:{port}/bad", kind.Options(), kind.Expect())
            slow = asyncio.create_task(kind.probe(bad, 5.0))
            await asyncio.sleep(0.3)
            begin = time.monotonic()
            good = Target(f"page+http://localhost:{port}/", kind.Options(), kind.Expect())
            result = await kind.probe(good, 5.0)
            took, busy = time.monotonic() - begin, not slow.done()
            await slow
            return result, took, busy

    result, took, busy = run(scenario())
    assert result.success and busy
    assert took < 1


def test_what_does_not_load_says_why(tmp_path):
    sites = "sites: [{url: 'page+https://example.com', expect: {security_headers: [hsts]}}]"
    with pytest.raises(ConfigError, match="security_headers: found 'hsts', expected 'strict-"):
        load(*files(tmp_path, sites), KINDS)
    sites = "sites: [{url: 'page+https://example.com', page: {links: 9999}}]"
    with pytest.raises(ConfigError, match="links: found 9999, expected 500 or less"):
        load(*files(tmp_path, sites), KINDS)
