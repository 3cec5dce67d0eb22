"""Packing as a model: the project's own code, one request to the store at a time, in every order and with every crash.

A process is the list of answers that it has got. To find its next request it runs again from the beginning with these
answers; a crash forgets them. Nothing of the protocol is written twice: `Compactor`, `BronzeObjects` and `Bronze` run here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from app.erase.bronze_objects import BronzeObjects, erase_events
from app.errors import HeadwaterError
from spark_streaming.compaction.bronze_store import BronzeStore
from spark_streaming.compaction.compactor import Compactor, Done
from spark_streaming.compaction.packing import Limits
from spark_streaming.reading.bronze import Bronze
from spark_streaming.reading.bronze_names import packed_span, small_path
from spark_streaming.reading.erased_events import Erasure
from spark_streaming.storage.s3_request import Answer
from tests.support.bronze_bucket import STORE, Object, answer
from tests.support.explorer import Properties

TOPIC = "hw.public.t"
# The first offsets of the sink's objects; each holds the offsets up to the next one.
FIRSTS = (0, 2, 3, 5)
EVENTS = 6
# The event whose row is erased.
ERASED = 2
PLAN = "plan"
# Two objects make a packed one, and each is old enough for everything.
LIMITS = Limits(lines_bytes=1 << 30, objects=2, young_s=-1, kept_s=-1)
RULES = frozenset(
    {
        "a packed object needs a free name",
        "the state is replaced only if it is as it was read",
        "an unfinished erasure is waited for",
        "an erasure finishes what is being packed",
        "an erasure rewrites packed objects and those that they hold",
        "objects that changed are read again",
        "a small object is deleted after its packed one is there",
        "the newest object stays",
        "packed objects are listed after the others",
        "readers ignore what a packed object holds",
    }
)
Objects = tuple[tuple[str, Object], ...]


class Pending(BaseException):
    """The next request of a process, which has no answer yet."""

    def __init__(self, request: tuple[Any, ...]) -> None:
        self.request = request


class Ended(NamedTuple):
    """What a process came to."""

    result: Any = None


class State(NamedTuple):
    """The bucket, whether an erasure's plan is there, and the answers of each process (None: not begun)."""

    objects: Objects
    planned: bool = False
    erased: bool = False
    processes: tuple[tuple[Any, ...] | None, ...] = ()
    ended: tuple[Ended | None, ...] = ()
    crashes: int = 0


def line(offset: int) -> bytes:
    value = {"topic": TOPIC, "partition": 0, "offset": offset, "timestamp": offset, "headers": []}
    return json.dumps({**value, "key": None, "value": f"v{offset}"}).encode() + b"\n"


def bucket() -> Objects:
    """The sink's objects, each with its proof."""
    found = []
    for first, after in zip(FIRSTS, (*FIRSTS[1:], EVENTS), strict=True):
        plain = gzip.compress(b"".join(line(n) for n in range(first, after)), mtime=0)
        comment = f"headwater read-from={first}".encode() + b"\0"
        body = plain[:3] + bytes([plain[3] | 16]) + plain[4:10] + comment + plain[10:]
        found.append((small_path(TOPIC, 0, first), Object(body)))
    return tuple(found)


def offsets_in(body: bytes) -> dict[int, Any]:
    lines = (json.loads(text) for text in gzip.decompress(body).splitlines())
    return {one["offset"]: one["value"] for one in lines}


class Packing:
    """The model.

    Args:
        roles: the processes: `packer`, `eraser`, `reader`; `sink` is a put that a task's death left on its way.
        crashes: how often a packer or an eraser is killed, and begins again.
    """

    def __init__(self, *roles: str, rules: frozenset[str] = RULES, crashes: int = 0) -> None:
        self.roles = roles
        self.rules = rules
        self.crashes = crashes
        self._known: dict[Any, Any] = {}
        self.always: Properties[State] = {
            "bronze has every event": self._is_complete,
            "the sink finds the partition's end": lambda s: (
                small_path(TOPIC, 0, 5) in dict(s.objects)
            ),
            "a reader sees each event once": self._reads_each_once,
            "nothing fails": lambda s: (
                not any(end is not None and isinstance(end.result, Exception) for end in s.ended)
            ),
            "after an erasure no object has the event": self._is_erased,
        }
        self.at_rest: Properties[State] = {
            "nothing is being packed": lambda s: (
                all(
                    json.loads(one.body)["packing"] is None
                    for path, one in s.objects
                    if path.endswith(".json")
                )
                or "eraser" in self.roles
            ),
            "what was packed is small objects no more": lambda s: (
                "packer" not in self.roles
                or not {"eraser", "sink"}.isdisjoint(self.roles)
                or len([1 for path, _ in s.objects if path.endswith(".gz")]) <= 3
            ),
        }

    def first(self) -> Iterator[State]:
        none = (None,) * len(self.roles)
        yield State(bucket(), processes=none, ended=none)

    def is_done(self, state: State) -> bool:
        return all(end is not None for end in state.ended)

    def _is_complete(self, state: State) -> bool:
        there = {
            n for path, one in state.objects if path.endswith(".gz") for n in offsets_in(one.body)
        }
        return there == set(range(EVENTS))

    def _is_erased(self, state: State) -> bool:
        if not state.erased:
            return True
        held = [offsets_in(one.body) for path, one in state.objects if path.endswith(".gz")]
        return all(one.get(ERASED) is None for one in held)

    def _reads_each_once(self, state: State) -> bool:
        return all(
            end is None or role != "reader" or end.result == tuple(range(EVENTS))
            for role, end in zip(self.roles, state.ended, strict=True)
        )

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number, role in enumerate(self.roles):
            if state.ended[number] is not None:
                continue
            words, after = self._step(state, number, role)
            yield f"{role} {number} {words}", after
            if state.processes[number] and state.crashes < self.crashes and role != "reader":
                forgotten = self._with(state, number, None)
                yield f"{role} {number} is killed", forgotten._replace(crashes=state.crashes + 1)

    def _with(self, state: State, number: int, answers: tuple[Any, ...] | None) -> State:
        return state._replace(
            processes=(*state.processes[:number], answers, *state.processes[number + 1 :])
        )

    def _step(self, state: State, number: int, role: str) -> tuple[str, State]:
        answers = state.processes[number] or ()
        known = self._known.get((role, answers))
        if known is None:
            known = self._known[(role, answers)] = self._next(role, answers)
        if isinstance(known, Ended):
            ended = (*state.ended[:number], known, *state.ended[number + 1 :])
            return "ends", self._with(state, number, ())._replace(ended=ended)
        request: tuple[Any, ...] = known
        said, after = self._answered(state, request)
        return f"asks {request[:2]}", self._with(after, number, (*answers, said))

    def _next(self, role: str, answers: tuple[Any, ...]) -> Any:
        """Run a process until it asks what has no answer yet. Returns: the request, or Ended."""
        left = list(answers)

        def ask(*request: Any) -> Any:
            if left:
                return left.pop(0)
            raise Pending(request)

        try:
            return Ended(getattr(self, f"_{role}")(ask))
        except Pending as pending:
            return pending.request
        except Exception as error:  # noqa: BLE001 - a property says that nothing fails
            return Ended(_Failed(f"{type(error).__name__}: {error} {getattr(error, 'detail', '')}"))

    def _answered(self, state: State, request: tuple[Any, ...]) -> tuple[Any, State]:
        method, key, *more = request
        if method == "plan?":
            return state.planned, state
        if method in ("plan", "receipt"):
            planned = method == "plan"
            return True, state._replace(planned=planned, erased=state.erased or not planned)
        objects = dict(state.objects)
        if method == "below":
            return _below(objects, key), state
        if method == "read":
            return (objects[key].body if key in objects else None), state
        query, body, headers = more
        said = answer(
            objects, 0.0, method, key, query=dict(query) or None, body=body, headers=dict(headers)
        )
        kept = dict(said.headers)
        frozen = (said.status, said.body, tuple(sorted(kept.items())))
        return frozen, state._replace(objects=tuple(sorted(objects.items())))

    # The processes.

    def _compactor(self, ask: Callable[..., Any]) -> Compactor:
        def planned() -> set[str]:
            waits = "an unfinished erasure is waited for" in self.rules
            return {TOPIC} if waits and ask("plan?", "") else set()

        kind = Compactor
        if "the newest object stays" not in self.rules:
            kind = _TakesTheNewest
        if "objects that changed are read again" not in self.rules:
            kind = _ReadsOnce
        if "a small object is deleted after its packed one is there" not in self.rules:
            kind = _DeletesFirst
        return kind(BronzeStore(STORE, self._sender(ask)), planned, LIMITS, Done())

    def _sender(self, ask: Callable[..., Any]) -> Callable[..., Answer]:
        def send(_: Any, method: str, __: str, key: str = "", **more: Any) -> Answer:
            headers = dict(more.get("headers") or {})
            if "a packed object needs a free name" not in self.rules and packed_span(key):
                headers.pop("If-None-Match", None)
            if (
                "the state is replaced only if it is as it was read" not in self.rules
                and key.endswith(".json")
            ):
                headers.pop("If-None-Match", None)
                headers.pop("If-Match", None)
            query = tuple(sorted((more.get("query") or {}).items()))
            said = ask(method, key, query, more.get("body", b""), tuple(sorted(headers.items())))
            status, body, kept = said
            return Answer(status, body, headers=dict(kept))

        return send

    def _packer(self, ask: Callable[..., Any]) -> None:
        compactor = self._compactor(ask)
        compactor.pack(TOPIC, 0, 0.0)
        compactor.drop_packed(TOPIC, 0, 0.0)

    def _sink(self, ask: Callable[..., Any]) -> None:
        path = small_path(TOPIC, 0, 2)
        BronzeStore(STORE, self._sender(ask)).put_new(path, dict(bucket())[path].body, {})

    def _eraser(self, ask: Callable[..., Any]) -> None:
        ask("plan", "")
        compactor = self._compactor(ask)
        if "an erasure finishes what is being packed" not in self.rules:
            compactor.settle = lambda *_: None  # type: ignore[method-assign]
        if "an erasure rewrites packed objects and those that they hold" not in self.rules:
            compactor.holders = lambda *_: [small_path(TOPIC, 0, ERASED)]  # type: ignore[method-assign]
        objects = BronzeObjects(STORE, self._sender(ask))
        erase_events(objects, compactor, (TOPIC, 0), [ERASED], Erasure("e", "now"))
        ask("receipt", "")

    def _reader(self, ask: Callable[..., Any]) -> tuple[int, ...]:
        def explain(_: int, first: int, last: int) -> None:
            raise HeadwaterError(f"a gap: {first} to {last}")

        bronze = _Listed(ask, self.rules)
        return tuple(event.offset for event in bronze.events(TOPIC, 0, 0, explain, EVENTS))


class _Failed(Exception):
    """What a process failed with; equal by its text."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Failed) and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.args)


class _Listed(Bronze):
    """The reader, which asks for each listing and each object."""

    def __init__(self, ask: Callable[..., Any], rules: frozenset[str]) -> None:
        super().__init__(None)
        self._ask = ask
        self._early: dict[str, list[str]] | None = None
        self._rules = rules

    def _below(self, folder: str) -> list[str]:
        found: list[str] = list(self._ask("below", folder))
        return found

    def _packed_beyond(self, topic: str, partition: int, offset: int) -> Iterator[str]:
        if "readers ignore what a packed object holds" not in self._rules:
            return
        yield from super()._packed_beyond(topic, partition, offset)

    def _objects_in(self, block: str) -> list[str]:
        if "packed objects are listed after the others" not in self._rules:
            early = list(super()._packed_beyond(TOPIC, 0, -1))
            self._packed_beyond = lambda *_: iter(early)  # type: ignore[method-assign]
        return super()._objects_in(block)

    def _packed(self, path: str) -> bytes:
        body = self._ask("read", path)
        if body is None:
            raise FileNotFoundError(path)
        return bytes(body)


class _TakesTheNewest(Compactor):
    def _candidates(self, *words: Any) -> Iterator[Any]:
        topic, partition, packed_to, _ = words
        for block in self._blocks(topic, partition):
            for one in self._small(block):
                if int(one.path[-29:-9]) > packed_to:
                    yield one


class _ReadsOnce(Compactor):
    def _members(self, packing: Any, read: Any) -> Any:
        return (
            [read[path][1] for path in packing.members] if read else super()._members(packing, read)
        )


class _DeletesFirst(Compactor):
    def _finish(self, topic: str, partition: int, state: Any, read: Any) -> None:
        members = self._members(state.packing, read) or []
        for one in members:
            self._store.delete(one.path)
        super()._finish(topic, partition, state, {one.path: ("", one) for one in members})


def _below(objects: dict[str, Object], folder: str) -> tuple[str, ...]:
    prefix = f"{folder}/" if folder else ""
    below = {prefix + key[len(prefix) :].split("/")[0] for key in objects if key.startswith(prefix)}
    return tuple(sorted(below))
