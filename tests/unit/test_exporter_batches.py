"""Which sites are scraped together, and what Prometheus is told of it."""

from hypothesis import given
from hypothesis import strategies as st

from dolcevita.config import parse_duration
from dolcevita.exporter.batches import MOST_SITES, Batch, Part, batches, discovery, parse
from dolcevita.exporter.roster import Roster
from sites import site


def members(batch, sites):
    return list(Roster(sites, "http://exporter").members(batch))


timings = st.sampled_from([(15.0, 10.0), (15.0, 2.5), (30.0, 10.0), (5.0, 3.0), (1.0, 0.8)])
names = st.lists(st.text(min_size=1, max_size=20), unique=True, max_size=150)


@given(names, st.lists(timings, min_size=150, max_size=150))
def test_every_site_is_in_exactly_one_batch_of_its_interval(names, timing):
    sites = [
        site(name, every=every, timeout=timeout)
        for name, (every, timeout) in zip(names, timing, strict=False)
    ]
    found = [member for batch in batches(sites) for member in members(batch, sites)]
    assert sorted(s.name for s in found) == sorted(names)
    for batch in batches(sites):
        inside = members(batch, sites)
        assert inside, "a batch is empty"
        assert {(s.every, s.timeout) for s in inside} == {(batch.every, batch.timeout)}


@given(st.builds(Batch, st.sampled_from([0.5, 15.0, 90.0]), st.just(2.5), st.just(3), st.just(8)))
def test_a_batch_is_found_again_by_its_name(batch):
    assert parse(str(batch)) == batch


def test_a_name_that_is_no_batch():
    for name in (
        "",
        "x",
        "15s.10s.8.8",
        "15s.10s.0.0",
        "15s.10s.-1.1",
        "15s.10s.0.1.2",
        "0s.1s.0.1",
    ):
        assert parse(name) is None, name


def test_batches_stay_small():
    sites = [site(f"site {i}") for i in range(1000)]
    sizes = [len(members(batch, sites)) for batch in batches(sites)]
    assert sum(sizes) / len(sizes) <= MOST_SITES
    assert max(sizes) < 2 * MOST_SITES


def test_a_batch_known_before_a_site_was_added_has_it_too():
    before = [site("a"), site("b")]
    (batch,) = batches(before)
    after = [*before, site("c")]
    assert members(parse(str(batch)), after) == after


def test_more_sites_split_batches_and_move_no_site_otherwise():
    small = [site(f"site {i}") for i in range(60)]
    large = [*small, *(site(f"more {i}") for i in range(60))]
    for after in batches(large):
        origins = {
            b for b in batches(small) for s in members(after, small) if s in members(b, small)
        }
        assert len(origins) <= 1


def test_prometheus_is_told_interval_timeout_and_batch():
    (group,) = discovery([site("shop", every=15.0, timeout=10.0)], "exporter:9714")
    assert group == {
        "targets": ["exporter:9714"],
        "labels": {
            "__metrics_path__": "/probe",
            "__param_batch": "15s.10s.0.1",
            "__scrape_interval__": "15s",
            "__scrape_timeout__": "10s500ms",
            "instance": "exporter:9714/15s.10s.0.1",
        },
    }


@given(names, timings)
def test_the_scrape_timeout_never_exceeds_the_interval_nor_the_up_series_meet(names, timing):
    every, timeout = timing
    groups = discovery([site(n, every=every, timeout=timeout) for n in names], "127.0.0.1:9714")
    labels = [group["labels"] for group in groups]
    for own in labels:
        interval = parse_duration(own["__scrape_interval__"])
        assert parse_duration(own["__scrape_timeout__"]) <= interval
    assert len({own["instance"] for own in labels}) == len(labels)


def test_each_place_has_the_batches_of_its_own_sites():
    sites = [site("shop"), site("intranet", places=("paris",)), site("slow", every=60.0)]
    places = {"paris": "here", "rome": "https://rome.example:9714"}
    groups = discovery(sites, "exporter:9714", places)
    told = {
        (group["targets"][0], *(group["labels"][key] for key in ("place", "__param_batch")))
        for group in groups
    }
    assert told == {
        ("exporter:9714", "paris", "15s.10s.0.1"),
        ("exporter:9714", "paris", "1m.10s.0.1"),
        ("rome.example:9714", "rome", "15s.10s.0.1"),
        ("rome.example:9714", "rome", "1m.10s.0.1"),
    }
    assert {g["labels"].get("__scheme__", "http") for g in groups[:2]} == {"http"}
    assert {g["labels"].get("__scheme__", "http") for g in groups[2:]} == {"https"}


hosts = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=150, max_size=150)


@given(names, hosts, st.integers(1, 7))
def test_every_site_is_in_one_part_with_all_of_its_host_and_sentinels_are_in_all(names, hosts, of):
    sites = [site(name, host=host) for name, host in zip(names, hosts, strict=False)]
    sites.append(site("sentinel" * 5, sentinel=True))
    found = [
        [s for batch in batches(sites, Part(number, of)) for s in members(batch, sites)]
        for number in range(of)
    ]
    assert all(sites[-1] in part for part in found)
    assert sorted(s.name for part in found for s in part if not s.sentinel) == sorted(names)
    for host in set(hosts) - {""}:
        assert sum(any(s.host == host for s in part) for part in found) <= 1


def test_a_batch_of_a_part_is_found_again_by_its_name():
    batch = Batch(15.0, 10.0, 3, 8, Part(1, 3))
    assert str(batch) == "15s.10s.3.8.1.3"
    assert parse(str(batch)) == batch
    assert parse("15s.10s.3.8.3.3") is None
