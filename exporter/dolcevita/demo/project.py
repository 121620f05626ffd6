"""The demo's project folder: the stack's own configuration with shortened times, one site, two
people."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

SITE = "la-boutique"
PROVIDER = "infogerance"
OWNER = "marie"

EVERY = "1s"
DOWN_AFTER = "4s"
RECOVER_AFTER = "6s"

COPIED = ("prometheus", "alertmanager", "docker-compose.yml")
OVERLAY = Path(__file__).with_name("docker-compose.demo.yml")


def write(folder: Path, source: Path, shop: str, shop_port: int) -> None:
    """Make `folder` a project without people: the configuration of the one in `source`, shortened.

    `shop` is its URL as the stack reaches it; in Docker it is published on `shop_port`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (source / name).is_dir() else shutil.copyfile
        copy(source / name, folder / name)
    shutil.copyfile(OVERLAY, folder / "docker-compose.override.yml")
    # The compose file mounts it; nobody has a secret here.
    (folder / "secrets").mkdir()
    variables = [f"DEMO_ROOT='{source}'", f"DEMO_SHOP_PORT={shop_port}"]
    if (source / ".env").is_file():
        lines = (source / ".env").read_text(encoding="utf-8").splitlines()
        variables += [line for line in lines if "_IMAGE=" in line]
    (folder / ".env").write_text("\n".join(variables) + "\n", encoding="utf-8")
    quicken(folder / "prometheus/prometheus.yml")
    times = {"every": EVERY, "down_after": DOWN_AFTER, "recover_after": RECOVER_AFTER}
    site = {"name": SITE, "url": shop, "host": "srv1", "expect": {"contains": "La Boutique"}}
    (folder / "sites.yml").write_text(yaml.safe_dump({"defaults": times, "sites": [site]}))
    # The containers' user is none of this machine's, and there is nothing to hide here.
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def write_people(folder: Path, phones: str, quiet_until: datetime) -> None:
    """people.yml with quiet hours that last until a full minute; a running stack follows it.

    What a phone receives goes to `phones`/provider or `phones`/owner.
    """
    end = quiet_until.astimezone(UTC)
    hours = f"{end - timedelta(hours=12):%H:%M}-{end:%H:%M}"
    people = {
        "providers": [{"name": PROVIDER, "notify": [{"webhook": f"{phones}/provider"}]}],
        "owners": [
            {
                "name": OWNER,
                "timezone": "UTC",
                "notify": [{"webhook": f"{phones}/owner"}],
                "quiet": {"hours": hours},
            }
        ],
    }
    scratch = folder / "people.new"
    scratch.write_text(yaml.safe_dump(people))
    scratch.chmod(0o644)
    scratch.replace(folder / "people.yml")


def quicken(path: Path) -> None:
    """Let time pass quickly: the rules stay as they are, and are evaluated more often."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["global"]["evaluation_interval"] = "1s"
    for job in config["scrape_configs"]:
        if job["job_name"] in ("exporter", "courier"):
            job |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
        for discovery in job.get("http_sd_configs", ()):
            discovery["refresh_interval"] = "1s"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
