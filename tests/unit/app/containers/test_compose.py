"""docker-compose.yml agrees with the folders' service.toml, and has the settings that containers need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.artefacts.locking.artefact_requirements import read_requirements
from app.containers.container_config import DIST, NATIVE_ONLY, lingering
from app.docs.compose_settings import COMPOSE_FILE, with_keys
from app.environment.profile import Profile
from app.environment.settings import ROOT
from app.services.described import services_of
from app.services.service import Service
from app.services.templates import variables

FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
# With both workers of a cluster, which compose always has.
SERVICES = {
    n: s
    for n, s in services_of(ROOT, Profile(network="containers")).items()
    if n not in NATIVE_ONLY
}
# Containers that the native stack does not have: the one-shot that renders, the commands, and the readers.
WHOLE_HOME = {"config", "headwater"}
READERS = {"deltalake-reader", "java-reader", "spark-reader"}
ONLY_CONTAINERS = WHOLE_HOME | READERS
WITH_CODE = ("headwater-app", "headwater-silver", "headwater-superset", "headwater-jobs")
CONTRACTS = "contracts:/etc/headwater/contracts"
READS_CONTRACTS = {"silver", "metrics", "app", "verifier", "streams", "intake"}
# Volumes in the services' homes, and the same volumes in the whole home.
KEPT = {
    "verifier": [("verify", "verify")],
    "capture": [("capture", "data/capture")],
    "connectors": [("capture", "data/capture:ro,nocopy")],
    **{name: [("job-files", "jobs:ro,nocopy")] for name in ("jobs-code", "metrics")},
}
SHARED = {
    CONTRACTS, "verify:/etc/headwater/verify", "capture:/etc/headwater/data/capture",
    "job-files:/etc/headwater/jobs", "jobs-code:/etc/headwater/data/jobs-code",
}  # fmt: skip
# Set once for all services, or passed in another way.
OWN_IMAGE = re.compile(r"^headwater-[a-z-]+$")
CONDITIONS = {
    "healthy": "service_healthy",
    "completed": "service_completed_successfully",
    "started": "service_started",
}
PORT = re.compile(r"^127\.0\.0\.1:\$\{HEADWATER_PORT_([A-Z0-9_]+):-(\d+)\}:(\d+)$")
CORE_MB_MAX, FULL_MB_MAX = 5 * 1024, 8 * 1024
OF_A_SETTING_MB_MAX = {"hive": 512, "cluster": 6_400, "jobs": 4 * 1024}
# Their images are gone from their registries, or may disappear.
GONE = ("minio", "bitnami")
# image → the artefact group and its version natively; the container runs the same.
VERSIONS = {
    "postgres": ("postgres", r"binaries-linux-amd64:(\d+\.\d+)"),
    "apache/kafka": ("kafka", r"kafka_2\.13:([\d.]+)"),
    "trinodb/trino": ("trino", r"trino-server:(\d+)"),
}

named = pytest.mark.parametrize("name", sorted(SERVICES))
contained = pytest.mark.parametrize("name", sorted(CONTAINERS))


def runs(name: str) -> bool:
    """Whether this container stays up."""
    return name not in ONLY_CONTAINERS and (
        SERVICES[name].kind == "service" or name in lingering(SERVICES)
    )


def mounts(name: str) -> dict[str, str]:
    """Target → source of a container's volumes."""
    pairs = (str(volume).split(":") for volume in CONTAINERS[name].get("volumes", []))
    return {parts[1]: parts[0] for parts in pairs}


def megabytes(name: str) -> int:
    return int(CONTAINERS[name]["mem_limit"].removesuffix("m"))


def test_both_ways_to_start_have_the_same_services() -> None:
    assert set(CONTAINERS) - ONLY_CONTAINERS == set(SERVICES)


@named
def test_a_container_becomes_its_service_by_the_rendered_command(name: str) -> None:
    container = CONTAINERS[name]
    assert container["entrypoint"] == [f"/etc/headwater/run/{name}/start"]
    assert "command" not in container and "environment" not in container


@named
def test_a_container_sees_the_files_of_its_service_and_of_no_other(name: str) -> None:
    expected = {f"run-{name}:/etc/headwater/run/{name}:ro,nocopy"}
    if name in READS_CONTRACTS:
        expected.add(f"{CONTRACTS}:ro,nocopy")
    expected |= {
        f"{volume}:/etc/headwater/run/{name}/{rest}" for volume, rest in KEPT.get(name, ())
    }
    if data_of(name) in mounts(name):
        expected.add(f"{mounts(name)[data_of(name)]}:{data_of(name)}")
    assert {*CONTAINERS[name]["volumes"]} == expected
    assert f"run-{name}:/etc/headwater/run/{name}" in CONTAINERS["config"]["volumes"]


def test_a_folder_that_config_writes_to_is_in_its_image() -> None:
    """A new volume gets its owner from the image's folder; without such a folder root owns it."""
    image = (ROOT / "app" / "Dockerfile").read_text()
    for target in mounts("config"):
        of_a_service = target.rpartition("/")[2] in SERVICES and "/run/" in target
        beneath = target in ("/etc/headwater", "/var/lib/headwater", "/etc/headwater/data/capture")
        assert of_a_service or beneath or f"{target} " in image, target


def test_only_the_one_that_renders_and_the_verbs_have_the_whole_home() -> None:
    whole = {name for name in CONTAINERS if "config" in mounts(name).values()}
    assert whole == WHOLE_HOME
    assert {*CONTAINERS["headwater"]["volumes"]} == {"config:/etc/headwater", *SHARED}
    assert {*CONTAINERS["config"]["volumes"]} > SHARED


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_reader_sees_its_variables_and_its_states_and_nothing_else(name: str) -> None:
    assert mounts(name) == {"/etc/headwater/run/readers": "run-readers", "/state": "readers"}
    assert CONTAINERS[name]["entrypoint"][0] == "/etc/headwater/run/readers/start"
    assert "run-readers:/etc/headwater/run/readers" in CONTAINERS["config"]["volumes"]


def data_of(name: str) -> str:
    """The path of the container's own volume, if it has one."""
    return SERVICES[name].container.data


@named
def test_a_container_waits_for_what_its_service_waits_for(name: str) -> None:
    needs = SERVICES[name].depends_on.items()
    expected = {need: CONDITIONS[how] for need, how in needs if need in SERVICES}
    expected["config"] = CONDITIONS["completed"]
    found = {need: how["condition"] for need, how in CONTAINERS[name]["depends_on"].items()}
    assert found == expected


@named
def test_a_container_publishes_its_services_ports_on_loopback(name: str) -> None:
    known = SERVICES[name].ports
    for published in CONTAINERS[name].get("ports", []):
        found = PORT.match(published)
        assert found, f"{published} is not on loopback, or cannot be moved"
        port, default, inside = found.group(1).lower(), int(found.group(2)), int(found.group(3))
        assert (default, inside) == (known[port], known[port])


@named
def test_what_has_a_url_is_published(name: str) -> None:
    published = {
        found.group(1).lower()
        for port in CONTAINERS[name].get("ports", [])
        if (found := PORT.match(port))
    }
    service = SERVICES[name]
    asked = {
        variable.removeprefix("port.")
        for url in service.urls.values()
        for variable in variables(url)
        if variable.startswith("port.")
    }
    # Kafka advertises a name that only containers can resolve; a cluster's page is its master's.
    workers = {port for port in asked if "_worker" in port}
    assert published == asked - {"kafka"} - workers


@named
def test_a_container_is_probed_and_stopped_as_its_service_is(name: str) -> None:
    service, container = SERVICES[name], CONTAINERS[name]
    if not runs(name):
        assert "healthcheck" not in container
        return
    check = container["healthcheck"]
    if service.kind == "oneshot":
        assert check["start_period"] == f"{service.timeout_s:.0f}s"
        return
    assert service.ready is not None, "without a probe nobody knows when it can be used"
    assert check["test"] == ["CMD", f"/etc/headwater/run/{name}/healthy"]
    assert check["start_period"] == f"{service.ready.timeout_s:.0f}s"
    assert check["retries"] >= 3
    assert container["stop_grace_period"] == f"{service.stop.timeout_s:.0f}s"
    assert container.get("stop_signal", "SIGTERM") == service.stop.signal


@named
def test_what_a_service_keeps_is_a_named_volume(name: str) -> None:
    service = SERVICES[name]
    templates = [*service.command, *service.environment.values()]
    templates += [word for step in service.prepare for word in step.command]
    templates += [(service.folder / file).read_text() for file in service.files.values()]
    uses_data = any("data" in variables(template) for template in templates)
    assert (service.container.data in mounts(name)) == uses_data


@named
def test_the_files_that_a_container_gets_are_there(name: str) -> None:
    service = SERVICES[name]
    for template in service.files.values():
        assert (service.folder / template).is_file()


@named
def test_no_service_writes_down_the_address_of_one_machine(name: str) -> None:
    service = SERVICES[name]
    texts = {"command": " ".join(service.command), "environment": str(service.environment)}
    texts.update({file: (service.folder / file).read_text() for file in service.files.values()})
    # A service's connections to itself always use loopback.
    itself = [f"127.0.0.1:${{port.{port}}}" for port in service.ports]
    for where, text in texts.items():
        for line in text.splitlines():
            if not line.lstrip().startswith("#") and "internal-address" not in line:
                rest = line
                for address in itself if "discovery.uri" in line else []:
                    rest = rest.replace(address, "")
                assert "127.0.0.1" not in rest, f"{where}: {line}: use ${{bind}} or ${{host.PORT}}"


@named
def test_an_artefact_of_a_service_is_in_its_image(name: str) -> None:
    service, container = SERVICES[name], CONTAINERS[name]
    build = container.get("build")
    text = (ROOT / build["dockerfile"]).read_text() if build else ""
    used = set(re.findall(r"\$\{(?:dir|classpath)\.([a-z0-9-]+)\}", _templates(service)))
    for group in used:
        elsewhere = {**service.container.directories, **service.container.classpaths}
        if group not in elsewhere:
            assert f"{DIST}/{group} " in text, f"`{group}` is not copied into the image of {name}"


@named
def test_a_service_says_whether_our_code_is_in_its_image(name: str) -> None:
    assert SERVICES[name].container.code == (CONTAINERS[name]["image"] in WITH_CODE)


@pytest.mark.parametrize("image", sorted(VERSIONS))
def test_a_container_runs_the_locked_version(image: str) -> None:
    group, pattern = VERSIONS[image]
    roots = " ".join(read_requirements(ROOT).group(group).roots)
    locked = re.search(pattern, roots)
    assert locked
    tags = {
        tag.removeprefix(f"{image}:")
        for tag in [*(c["image"] for c in CONTAINERS.values()), *_base_images()]
        if tag.startswith(f"{image}:")
    }
    assert tags and all(re.split(r"-|@", tag)[0] == locked.group(1) for tag in tags)


def test_every_image_is_pinned_and_still_published() -> None:
    for image in [*(c["image"] for c in CONTAINERS.values()), *_base_images()]:
        assert not any(gone in image for gone in GONE), image
        if not OWN_IMAGE.match(image):
            tag = image.partition(":")[2]
            assert re.match(r"^v?\d+(\.\d+)*", tag), f"{image} is not pinned"
            assert "latest" not in tag


def test_own_images_are_built_here_on_shared_stages() -> None:
    for container in CONTAINERS.values():
        assert ("build" in container) == bool(OWN_IMAGE.match(container["image"]))
    texts = [path.read_text() for path in dockerfiles()]
    for stage in ("environment", "artefacts"):
        pattern = rf"^FROM [^\n]* AS {stage}\n.*?(?=^FROM )"
        found = {match for text in texts for match in re.findall(pattern, text, re.M | re.S)}
        assert len(found) == 1, f"stage `{stage}` differs: it would be built more than once"


def test_the_stages_that_fetch_take_in_every_module_that_they_need() -> None:
    text = (ROOT / "connect" / "Dockerfile").read_text()
    copied = re.findall(r"app/[a-z_/]+(?:\.py)?(?= )", text)
    queue = ["app.artefacts.gather"]
    needed: set[str] = set()
    while queue:
        module = queue.pop()
        needed.add(module)
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        queue += [
            m for m in re.findall(r"^from (app\.[a-z_.]+) import", source, re.M) if m not in needed
        ]
    paths = {f"{module.replace('.', '/')}.py" for module in needed}
    assert {p for p in paths if not any(p == c or p.startswith(f"{c}/") for c in copied)} == set()


@contained
def test_every_container_is_bounded_and_without_privileges(name: str) -> None:
    container = CONTAINERS[name]
    assert container["cap_drop"] == ["ALL"]
    assert container["read_only"] is True
    # The only place for writes outside of volumes: bounded, and with `exec` for JVMs' native libraries.
    assert container["tmpfs"] == ["/tmp:exec,mode=1777,size=256m"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert {"max-size", "max-file"} <= set(container["logging"]["options"])
    assert container["pids_limit"] > 0
    assert "privileged" not in container and "network_mode" not in container
    own = CONTAINERS[name]["image"] in WITH_CODE
    assert own or container["user"] not in ("root", "0"), "official images start as root"


@contained
def test_a_container_comes_back_and_a_oneshot_gives_up(name: str) -> None:
    assert CONTAINERS[name]["restart"] == ("unless-stopped" if runs(name) else "on-failure:2")


@named
def test_a_container_may_use_more_than_its_service_was_seen_to_use(name: str) -> None:
    if runs(name) and name != "silver":  # silver's heap bounds its memory
        assert megabytes(name) > SERVICES[name].memory_mb


def test_the_profiles_stay_within_their_memory() -> None:
    core = [name for name in CONTAINERS if runs(name) and not CONTAINERS[name].get("profiles")]
    assert sum(map(megabytes, core)) <= CORE_MB_MAX
    every = [name for name in CONTAINERS if runs(name)]
    for profile, most in OF_A_SETTING_MB_MAX.items():
        own = [name for name in every if CONTAINERS[name].get("profiles") == [profile]]
        assert own and sum(map(megabytes, own)) <= most
        every = [name for name in every if name not in own]
    assert sum(map(megabytes, every)) <= FULL_MB_MAX


def test_silver_may_use_its_heap_and_as_much_again() -> None:
    given = CONTAINERS["config"]["environment"]["HEADWATER_SILVER_HEAP_MB"]
    assert megabytes("silver") >= 2 * int(given.partition(":-")[2].rstrip("}"))


def test_profiles_are_the_documented_ones() -> None:
    found = {profile for c in CONTAINERS.values() for profile in c.get("profiles", [])}
    others = {"dashboards", "full", "verifier", "streams", "verbs", "readers"}
    assert found == {*OF_A_SETTING_MB_MAX, *others}


@named
def test_what_has_to_be_named_natively_has_to_be_named_here(name: str) -> None:
    profiles = CONTAINERS[name].get("profiles", ["full"])
    # Services of a Hive metastore, of jobs or a cluster belong to a setting, and have its profile.
    when = SERVICES[name].when
    cluster = when == "spark_cluster" or SERVICES[name].instances is not None
    cluster &= name.startswith(("spark", "trino"))
    expected = {"hive": when == "hive_service", "cluster": cluster, "jobs": when == "jobs"}
    assert ("full" in profiles) == (SERVICES[name].default and not any(expected.values()))
    assert {profile: profile in profiles for profile in expected} == expected


def test_only_what_a_profile_may_leave_out_is_not_required() -> None:
    for name, container in CONTAINERS.items():
        for need, how in (container.get("depends_on") or {}).items():
            together = {*container.get("profiles", [])} <= {*CONTAINERS[need].get("profiles", [])}
            always = not CONTAINERS[need].get("profiles") or ("profiles" in container and together)
            assert how.get("required", True) == always, f"{name} needs {need}"


def test_no_secret_stands_in_the_file() -> None:
    text = FILE.read_text()
    assert not re.search(r"(?i)(password|secret_key|access_key)\w*\s*[:=]\s*[A-Za-z0-9]{8,}", text)


def test_the_environment_file_can_set_every_setting_and_nothing_else() -> None:
    settings = {f"HEADWATER_{name.upper()}" for name in Profile.container_keys()}
    text = COMPOSE_FILE.read_text()
    assert with_keys(text) == text, "docker-compose.yml is stale: `make reference`"
    ports = {
        f"HEADWATER_PORT_{found.group(1)}": f"${{HEADWATER_PORT_{found.group(1)}:-{found.group(2)}}}"
        for container in CONTAINERS.values()
        for port in container.get("ports", [])
        if (found := PORT.match(port))
    }
    given = CONTAINERS["config"]["environment"]
    assert set(given) == settings | set(ports)
    # The page links to the published ports.
    assert {name: given[name] for name in ports} == ports


def test_every_volume_is_named_and_used() -> None:
    used = {source for name in CONTAINERS for source in mounts(name).values()}
    assert used == set(COMPOSE["volumes"])


def dockerfiles() -> list[Path]:
    return [
        ROOT / name
        for name in sorted({c["build"]["dockerfile"] for c in CONTAINERS.values() if "build" in c})
    ]


def _base_images() -> list[str]:
    return [
        image
        for path in dockerfiles()
        for image in re.findall(r"^ARG \w+_IMAGE=(\S+)", path.read_text(), re.M)
    ]


def _templates(service: Service) -> str:
    files = [(service.folder / file).read_text() for file in service.files.values()]
    steps = [word for step in service.prepare for word in step.command]
    return "\n".join([*service.command, *service.environment.values(), *steps, *files])


def test_the_containers_tests_replace_every_image_of_core_by_one_made_here() -> None:
    text = (ROOT / "tests" / "containers" / "override.yml").read_text()
    text = text.replace("!reset null", "null").replace("!override ", "")
    replaced = yaml.safe_load(text)["services"]
    assert replaced.pop("grafana") == {"profiles": ["official"]}
    core = {name for name, one in CONTAINERS.items() if not {*one.get("profiles", [])} - {"verbs"}}
    assert core < set(replaced) == set(CONTAINERS) - {"grafana"}
    for name, one in replaced.items():
        assert one["image"].startswith("headwater-test/") and one["pull_policy"] == "never"
        assert ("build" in one) == ("build" in CONTAINERS[name])
