"""The monitoring machine offline: nobody is paged about sites."""

import time
from pathlib import Path

import yaml

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import inbox
from running import Stack
from scene import Scene, people_yml, sites_yml
from waiting import until


def test_10_when_all_sentinels_and_sites_are_unreachable_nobody_is_paged_about_sites(
    programs: Programs, tmp_path: Path
) -> None:
    scene = Scene("marie", Host(tmp_path / "host"), lambda scene: None, sites=3)
    sentinels = [Host(tmp_path / "one"), Host(tmp_path / "two")]
    hosts = [scene.host, *sentinels]
    for host in hosts:
        host.start()
    config = yaml.safe_load(sites_yml([scene]))
    config["sites"] += [
        {"url": host.url, "sentinel": True, "every": "1s", "owner": "marie", "provider": "stack"}
        for host in sentinels
    ]
    with inbox() as received:
        people = people_yml([scene], received)
        stack = Stack(tmp_path / "stack", programs, yaml.safe_dump(config), people)
        try:
            stack.start()
            stack.seen_up(5)
            for host in hosts:
                host.stop()
            until(lambda: received.to("stack", "UplinkDown", "firing"), "UplinkDown", within=60)
            time.sleep(20)
            for host in hosts:
                host.start()
            until(
                lambda: received.to("stack", "UplinkDown", "resolved"), "the end of it", within=60
            )
            time.sleep(30)
            assert {m.to for m in received.all} == {"stack"}, received.log()
            alerts = {name for m in received.all for name in m.of("alertname")}
            assert alerts == {"UplinkDown"}, received.log()
        finally:
            stack.stop()
            for host in hosts:
                host.stop()
