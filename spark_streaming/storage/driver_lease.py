"""The lease of silver's driver: if several are started on one lake, one works and the others wait.

Each term of a lease is an object, `_headwater/silver-driver/<epoch>`. A driver gets the lease by
putting the object of the next epoch, on the condition that it is free. Only that driver rewrites
the object, to renew the lease. A waiting driver measures with its own clock how long the object has
not changed, so no two clocks are compared.
The README of `spark_streaming` says why a driver that was paused cannot harm the next one.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree

from spark_streaming.storage.conditional_puts import ONLY_IF_FREE
from spark_streaming.storage.s3_request import Answer, ask
from spark_streaming.storage.store_address import ObjectStore

log = logging.getLogger(__name__)
FOLDER = "_headwater/silver-driver"
RENEW_S = 5.0
# Six missed renewals: a driver is not given up because its machine swaps or the store is slow.
EXPIRES_S = 30.0
WAIT_S = 2.0
_FREE, _TAKEN = (404,), (409, 412)


class Superseded(Exception):
    """Another driver has taken over, so this one must not write any more."""


@dataclass(frozen=True)
class Term:
    """What the object of one epoch says of the driver that has it.

    `process`: the driver, as `this_process` names it. `checkpoint`: that of its query. `copy_of`:
    the checkpoint that this one was copied from, "" if none. `ready`: no driver of an earlier epoch
    can commit any more. `released`: the driver ended by itself and writes nothing more.
    """

    checkpoint: str
    process: str = field(default_factory=lambda: this_process())
    where: str = field(default_factory=lambda: f"process {os.getpid()} on {socket.gethostname()}")
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    copy_of: str = ""
    renewals: int = 0
    ready: bool = False
    released: bool = False

    def to_json(self) -> bytes:
        """The term as its object's content."""
        return json.dumps(asdict(self)).encode()

    def next(self, mine: Term, epoch: int, *, clean: bool) -> Term:
        """The term of the driver `mine` after this one.

        `clean`: this term's driver has ended, so nobody else uses its checkpoint. Otherwise it may
        still write there, and the next driver works on a copy.
        """
        used = self.checkpoint if self.ready else self.copy_of or self.checkpoint
        if used != mine.checkpoint and not used.startswith(f"{mine.checkpoint}-"):
            return replace(mine, ready=clean)  # the checkpoints differ: this driver keeps its own
        if clean:
            return replace(mine, checkpoint=used, ready=True)
        return replace(mine, checkpoint=f"{mine.checkpoint}-{epoch}", copy_of=used)


class LeaseObjects(Protocol):
    """Where terms are kept; each call is one request."""

    def newest(self) -> int:
        """The greatest epoch; 0 without one."""
        ...

    def read(self, epoch: int) -> bytes | None: ...

    def claim(self, epoch: int, content: bytes) -> bool:
        """Put the object of an epoch if there is none. Returns: whether it was put."""
        ...

    def write(self, epoch: int, content: bytes) -> None: ...

    def remove(self, epoch: int) -> None: ...


class DriverLease:
    """One driver's part: takes the lease, renews it, and says when another has it.

    Args:
        mine: this driver; its `checkpoint` is the one of the settings.
        may_run: whether the driver of a term may still run, by its `process`.
    """

    def __init__(
        self,
        objects: LeaseObjects,
        mine: Term,
        *,
        clock: Callable[[], float] = time.monotonic,
        may_run: Callable[[str], bool] | None = None,
    ) -> None:
        self._objects = objects
        self._clock = clock
        self._may_run = may_run or process_may_run
        self._seen: tuple[int, int, float] = (0, 0, 0.0)
        self._lock = threading.Lock()  # held while the term's object is written
        self._ended = threading.Event()
        self.term = mine
        self.epoch = 0
        self.lost = ""  # why this driver may not write any more

    def take(self) -> str:
        """Try once to get the lease. Returns: "" if this driver has it now, otherwise the driver that has it."""
        newest = self._objects.newest()
        content = self._objects.read(newest) if newest else None
        if newest and content is None:
            return "a driver that has taken over just now"
        held = Term(**json.loads(content)) if content else None
        if held is not None and held.holder == self.term.holder:
            self.term, self.epoch = held, newest  # put by an earlier try whose answer was lost
            return ""
        ended = held is None or held.released or not self._may_run(held.process)
        if held is not None and not ended and not self._expired(newest, held):
            return held.where
        clean = held is None or (held.ready and ended)
        mine = (
            held.next(self.term, newest + 1, clean=clean)
            if held is not None
            else replace(self.term, ready=True)
        )
        if not self._objects.claim(newest + 1, mine.to_json()):
            return "a driver that was faster"
        self.term, self.epoch = mine, newest + 1
        if (
            newest
        ):  # the newest object must always be there; a late renewal of an older one is harmless
            self._objects.remove(newest)
        return ""

    def _expired(self, epoch: int, held: Term) -> bool:
        if self._seen[:2] != (epoch, held.renewals):
            self._seen = (epoch, held.renewals, self._clock())
        return self._clock() - self._seen[2] >= EXPIRES_S

    def wait(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Return when this driver has the lease. Raises: OSError if the store does not answer."""
        said = ""
        while who := self.take():
            if who != said:
                log.info(
                    "another driver of silver works on this lake: %s; this one waits\n"
                    "  hint: it takes over when that one ends, or has not renewed for %.0f s",
                    who,
                    EXPIRES_S,
                )
                said = who
            pause(WAIT_S)

    def check(self) -> None:
        """Raise Superseded if another driver has taken over; OSError if the store cannot be asked."""
        newest = self._objects.newest()
        if newest > self.epoch:
            self.lost = (
                f"another driver of silver has taken over this lake (its epoch is {newest}, this "
                f"driver's {self.epoch}): this one did not renew its lease for {EXPIRES_S:.0f} s\n"
                "  hint: nothing is lost; a restart of this one waits until that one ends"
            )
            raise Superseded(self.lost)

    def renew(self) -> None:
        """Show that this driver lives. Raises: Superseded, OSError."""
        self.check()
        self._write(replace(self.term, renewals=self.term.renewals + 1))

    def ready(self) -> None:
        """Note that no earlier driver can commit any more."""
        self._write(replace(self.term, ready=True))

    def keep(self) -> None:
        """Renew from now on, in a thread of its own, until `release`."""
        threading.Thread(target=self._keep, name="driver-lease", daemon=True).start()

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                self.renew()
            except Superseded:
                return  # `lost` says why
            except OSError as error:
                log.warning("the lease of silver's driver was not renewed: %s", error)

    def release(self) -> None:
        """Let the next driver begin at once, since this one writes nothing more."""
        self._ended.set()
        try:
            self.check()
            self._write(replace(self.term, released=True))
        except (Superseded, OSError) as error:
            log.warning("the lease of silver's driver was not released: %s", error)

    def _write(self, term: Term) -> None:
        with self._lock:
            if self._ended.is_set() and not term.released:
                return  # a renewal that began before the release must not undo it
            self.term = term
            self._objects.write(self.epoch, term.to_json())


class StoredLease:
    """Keeps terms as objects in the store's folder of a bucket; each source has its own lease.

    Args:
        job: the number of the job; if several share a source's tables, each has a lease.
    """

    def __init__(self, store: ObjectStore, bucket: str, job: int = 1) -> None:
        self._store = store
        self._bucket = bucket
        folder = FOLDER if job == 1 else f"{FOLDER}-{job}"
        self._folder = f"{store.lake_folder}/{folder}" if store.lake_folder else folder

    def newest(self) -> int:
        """The greatest epoch; 0 without one."""
        query = {"list-type": "2", "prefix": f"{self._folder}/"}
        answer = self._good(ask(self._store, "GET", self._bucket, query=query), "list")
        keys = [
            element.text or ""
            for element in ElementTree.fromstring(answer.body).iter()
            if element.tag.rpartition("}")[2] == "Key"
        ]
        return max((int(key.rpartition("/")[2]) for key in keys), default=0)

    def read(self, epoch: int) -> bytes | None:
        """The content of an epoch's object; None without one."""
        answer = ask(self._store, "GET", self._bucket, self._key(epoch))
        return None if answer.status in _FREE else self._good(answer, "read").body

    def claim(self, epoch: int, content: bytes) -> bool:
        """Put an epoch's object if there is none. Returns: whether it was put."""
        answer = ask(
            self._store, "PUT", self._bucket, self._key(epoch), body=content, headers=ONLY_IF_FREE
        )
        return answer.status not in _TAKEN and self._good(answer, "put").ok

    def write(self, epoch: int, content: bytes) -> None:
        """Put an epoch's object, overwriting an existing one."""
        self._good(ask(self._store, "PUT", self._bucket, self._key(epoch), body=content), "put")

    def remove(self, epoch: int) -> None:
        """Remove an epoch's object."""
        self._good(ask(self._store, "DELETE", self._bucket, self._key(epoch)), "delete")

    def _key(self, epoch: int) -> str:
        return f"{self._folder}/{epoch:012d}"

    def _good(self, answer: Answer, what: str) -> Answer:
        if not answer.ok:
            place = f"{self._bucket}/{self._folder}"
            raise OSError(
                f"could not {what} in {place} of {self._store.endpoint}: {answer.summary()}"
            )
        return answer


def this_process() -> str:
    """A text that no other process has: the machine's boot, the pid namespace, pid and start.

    "" if the system does not give these.
    """
    started = _started(os.getpid())
    return f"{_machine()}/{os.getpid()}/{started}" if started else ""


def process_may_run(process: str) -> bool:
    """Whether a process, named by `this_process`, may run: False only if it has surely ended."""
    machine, _, rest = process.partition("/")
    pid, _, started = rest.partition("/")
    if not started or machine != _machine():
        return True
    return _started(int(pid)) == started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot; "" if it does not run."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else fields[18]
