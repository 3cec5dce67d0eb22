"""A user's Kafka: a broker that accepts only signed-in clients over TLS, and has ACLs."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient

from app.artefacts.dist import Artefacts
from tests.support.proxy import Proxy
from tests.support.stack import ROOT
from tests.support.waiting import until

USER, PASSWORD = "lake", "open sesame 7"
CLUSTER = "b3duLWthZmthLW9mLXRlc3"
_SERVER = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENTS://127.0.0.1:{clients},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{clients},INTERNAL://127.0.0.1:{advertised}
listener.security.protocol.map=CLIENTS:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs={folder}/data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
message.max.bytes=67108864
socket.request.max.bytes=75497472
log.cleaner.dedupe.buffer.size=8388608
"""


@dataclass(frozen=True)
class OwnKafka:
    """A running broker: `address` is for clients, `internal` for granting rights, without a log-in."""

    address: str
    internal: str
    java: list[str]

    def grant(self, command: str) -> None:
        """Run a `kafka-acls.sh …` as the broker's administrator."""
        words = shlex.split(command)
        assert words[0] == "kafka-acls.sh"
        words[words.index("--bootstrap-server") + 1] = self.internal
        at = words.index("--command-config")
        del words[at : at + 2]
        tool = [*self.java, "org.apache.kafka.tools.AclCommand", *words[1:]]
        ended = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def own_kafka(folder: Path, proxy: Proxy | None = None) -> Iterator[OwnKafka]:
    """Start a broker; `folder` has `server.crt`, `server.key` and `root.crt`, and gets its data.

    Args:
        proxy: leads to `internal`, and is the address that the broker names to clients there.
    """
    artefacts = Artefacts(ROOT)
    artefacts.prepare(["kafka"])
    jars = os.pathsep.join(map(str, artefacts.classpath("kafka")))
    java = [str(artefacts.java()), "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    java += [f"-Dlog4j2.configurationFile={ROOT / 'connect' / 'kafka' / 'log4j2.properties'}"]
    java += ["-cp", jars]
    clients, internal, controller = _free_ports(3)
    pair = [(folder / name).read_text() for name in ("server.key", "server.crt", "root.crt")]
    (folder / "server.pem").write_text("".join(pair))
    properties = folder / "server.properties"
    properties.write_text(
        _SERVER.format(
            clients=clients,
            internal=internal,
            controller=controller,
            folder=folder,
            advertised=proxy.port if proxy else internal,
        )
    )
    if proxy:
        proxy.target = internal
    made = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(properties)]
    made += ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]
    subprocess.run([*java, *made], check=True, capture_output=True, timeout=120)
    with (folder / "kafka.log").open("w") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
        try:
            until(
                lambda: _signs_in(clients, folder / "root.crt"),
                within_s=90,
                what=f"the broker of {folder}",
            )
            yield OwnKafka(f"127.0.0.1:{clients}", f"127.0.0.1:{internal}", java)
        finally:
            process.kill()
            process.wait(timeout=30)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _signs_in(port: int, root: Path) -> bool:
    """Whether a client can sign in; the port accepts connections long before the broker answers."""
    client = KafkaAdminClient(
        bootstrap_servers=f"127.0.0.1:{port}",
        security_protocol="SASL_SSL",
        ssl_cafile=str(root),
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username=USER,
        sasl_plain_password=PASSWORD,
        request_timeout_ms=5_000,
        bootstrap_timeout_ms=5_000,
    )
    client.close()
    return True
