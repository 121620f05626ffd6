"""Two vantage points: one cut off is no page, what both see is one page."""

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import yaml

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, inbox
from namespaces import Machine, network
from running import Stack
from scene import DOWN_AFTER, Scene, people_yml, sites_yml
from waiting import until

PORT = 9714


def exporter(made: ExitStack, machine: Machine, stack: Stack) -> None:
    """An exporter in another place, with the same files."""
    with machine.inside(), (stack.folder / f"{machine.namespace}.log").open("wb") as log:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("dolcevita"),
                *("serve", "--listen", f"{machine.address}:{PORT}"),
                *("--sites", stack.sites, "--people", stack.people),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    made.callback(process.wait)
    made.callback(process.kill)


def host_on(made: ExitStack, machine: Machine, folder: Path) -> Host:
    """A running host on that machine."""
    host = Host(folder, machine.address)
    with machine.inside():
        host.start()
    made.callback(host.stop)
    return host


def cut_off(stack: Stack, received: Inbox) -> None:
    """Rome is seen to be cut off, for long enough to page, and nobody is."""
    alert = 'ALERTS{alertname="PlaceCutOff", alertstate="firing", place="rome"}'
    until(lambda: stack.query(alert), "Rome to be seen cut off", within=30)
    time.sleep(2 * DOWN_AFTER)
    assert stack.query(alert)
    assert not stack.query('ALERTS{alertname=~"SiteDown|ServerDown|UplinkDown|ExporterDown"}')
    assert {message.to for message in received.all} <= {"stack"}, received.log()


def whole_again(stack: Stack) -> None:
    until(
        lambda: len(stack.query("place:probe_success:min == 1")) == 4,
        "both places to have a vote on both sites",
        within=90,
    )


def test_one_place_cut_off_is_no_page_and_what_both_see_is_one(
    programs: Programs, tmp_path: Path
) -> None:
    names = ("middle", "paris", "rome", "hoster", "elsewhere")
    with network(*names) as machines, ExitStack() as made:
        middle, paris, rome, hoster, elsewhere = machines
        made.enter_context(middle.inside())
        received = made.enter_context(inbox())
        scene = Scene("marie", host_on(made, hoster, tmp_path / "host"), lambda scene: None)
        reference = host_on(made, elsewhere, tmp_path / "reference")
        config = yaml.safe_load(sites_yml([scene]))
        config["places"] = {
            "paris": f"http://{paris.address}:{PORT}",
            "rome": f"http://{rome.address}:{PORT}",
        }
        config["sites"].append({"url": reference.url, "sentinel": True, "every": "1s"})
        config["defaults"] |= {"owner": "marie", "provider": scene.provider}
        sites, people = yaml.safe_dump(config), people_yml([scene], received)
        stack = Stack(tmp_path / "stack", programs, sites, people)
        rules = stack.folder / "prometheus/rules/places.yml"
        rules.write_text(rules.read_text().replace("for: 1m", "for: 3s"))
        made.callback(stack.stop)
        exporter(made, paris, stack)
        exporter(made, rome, stack)
        stack.start()
        whole_again(stack)

        # Nobody reaches Rome.
        rome.unplug()
        cut_off(stack, received)
        rome.plug()
        whole_again(stack)

        # Rome is reached, and reaches neither site nor sentinel.
        rome.lose_way(hoster.address, elsewhere.address)
        cut_off(stack, received)
        rome.find_way(hoster.address, elsewhere.address)
        whole_again(stack)

        # The host of the site dies.
        scene.host.stop()
        until(lambda: received.to(scene.provider), received.log, within=60)
        with hoster.inside():
            scene.host.start()
        until(lambda: received.to("marie"), received.log, within=60)
        down, up = received.to(scene.provider)
        assert (down.status, up.status) == ("firing", "resolved"), received.log()
        (alert,) = down.alerts
        assert alert["labels"]["alertname"] == "SiteDown"
        assert alert["annotations"]["description"].endswith("It fails from paris, rome.")
        (told,) = received.to("marie")
        assert told.of("alertname") == ["IncidentResolved"], received.log()
