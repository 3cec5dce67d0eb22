"""One event of a stream: judged by its contract, and carried as one Kafka record.

The record's key is the event's idempotency key, its value `{"time": …, "data": {…}}`. Events are
judged twice: by the API, which refuses them with a reason, and before silver, which puts bad events
that reached the topic in another way into quarantine.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    create_model,
)

from spark_streaming.events.event import RawEvent
from spark_streaming.streams.stream_contract import Stream, StreamColumn

KEY_BYTES_MAX = 200
EVENT_BYTES_MAX = 64 << 10
# A clock may be wrong, but a day in the future would be kept for longer than the contract says.
AHEAD_MAX = dt.timedelta(hours=1)
_REASONS_MAX = 3
_REASON_CHARS_MAX = 500


class Refused(Exception):
    """An event breaks its contract: `rule` in words with dashes, `reason` for people."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason[:_REASON_CHARS_MAX]


class Event(NamedTuple):
    """A judged event: `values` by column, as Arrow takes them."""

    key: str
    time: dt.datetime
    values: dict[str, Any]
    source: RawEvent | None = None

    @property
    def day(self) -> dt.date:
        """The event's day in UTC, which is its partition in silver."""
        return self.time.date()


def _only_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("text is expected")
    return value


def _as_json(value: object) -> object:
    return None if value is None else orjson.dumps(value).decode()


_TIME = TypeAdapter(Annotated[AwareDatetime, BeforeValidator(_only_text)])
_PLAIN: dict[str, Any] = {
    "int64": Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)],
    "float64": Annotated[float, Field(strict=True)],
    "bool": Annotated[bool, Field(strict=True)],
    "timestamptz": Annotated[AwareDatetime, BeforeValidator(_only_text)],
    "date": Annotated[dt.date, BeforeValidator(_only_text)],
    "uuid": Annotated[uuid.UUID, BeforeValidator(_only_text), AfterValidator(str)],
    "json": Annotated[str, BeforeValidator(_as_json)],
}


class ColumnJudge:
    """Judges values by the columns of a contract."""

    def __init__(self, name: str, columns: Mapping[str, StreamColumn]) -> None:
        self._names = list(columns)
        # The model's fields get neutral names, because a column may be called `copy` or `schema`.
        fields: dict[str, Any] = {
            f"c{number}": _field(name, column)
            for number, (name, column) in enumerate(columns.items())
        }
        config = ConfigDict(extra="forbid")
        self._model: type[BaseModel] = create_model(name, __config__=config, **fields)

    def values(self, data: Mapping[str, object]) -> dict[str, Any]:
        """Return the values by column, as Arrow takes them. Raises: Refused."""
        try:
            found = self._model.model_validate(data)
        except ValidationError as error:
            raise Refused("breaks-contract", _message(error)) from None
        return dict(zip(self._names, found.__dict__.values(), strict=True))


class Judge:
    """Judges the events of one stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._columns = ColumnJudge(stream.name, stream.contract.columns)

    def check(self, document: object, now: dt.datetime) -> Event:
        """The event in `{"key": …, "time": …, "data": {…}}`; without `time` its time is `now`.

        Raises: Refused.
        """
        if not isinstance(document, Mapping):
            raise Refused("not-an-event", 'an event is an object: {"key": …, "data": {…}}')
        unknown = sorted(document.keys() - {"key", "time", "data"})
        if unknown:
            raise Refused("not-an-event", f"unknown `{unknown[0]}` beside key, time and data")
        key = checked_key(document.get("key"))
        given = document.get("time")
        return self._event(key, now if given is None else given, document.get("data"), now)

    def decode(self, raw: RawEvent) -> Event:
        """The event in a Kafka record. Raises: Refused."""
        now = dt.datetime.fromtimestamp(raw.timestamp_ms / 1000, dt.timezone.utc)
        if raw.key is None:
            raise Refused("no-key", "the record has no key; an event's key is its identity")
        try:
            key = checked_key(raw.key.decode())
        except UnicodeDecodeError:
            raise Refused("bad-key", "the record's key is not UTF-8") from None
        if raw.value is None:
            raise Refused("no-value", "the record has no value")
        if len(raw.value) > EVENT_BYTES_MAX:
            raise Refused("too-large", f"{len(raw.value)} bytes; at most {EVENT_BYTES_MAX}")
        try:
            document = orjson.loads(raw.value)
        except orjson.JSONDecodeError as error:
            raise Refused("not-json", f"the record's value is not JSON: {error}") from None
        if not isinstance(document, dict) or document.keys() != {"time", "data"}:
            raise Refused("not-an-event", 'the record\'s value is not {"time": …, "data": {…}}')
        found = self._event(key, document["time"], document["data"], now)
        return found._replace(source=raw)

    def _event(self, key: str, time: object, data: object, now: dt.datetime) -> Event:
        moment = time if isinstance(time, dt.datetime) else _time(time)
        moment = moment.astimezone(dt.timezone.utc)
        oldest = now.date() - dt.timedelta(days=self._stream.contract.retention_days)
        if moment > now + AHEAD_MAX:
            raise Refused("time-ahead", f"time {moment.isoformat()} is more than an hour ahead")
        if moment.date() < oldest:
            raise Refused("too-old", f"time {moment.isoformat()} is before the days that are kept")
        if not isinstance(data, Mapping):
            raise Refused("not-an-event", "`data` is missing or is not an object")
        return Event(key, moment, self._columns.values(data))


def checked_key(key: object) -> str:
    """The idempotency key. Raises: Refused if it is not a valid one."""
    if not isinstance(key, str) or not key:
        raise Refused("no-key", "`key` is missing: a text that no other event of the stream has")
    if len(key.encode("utf-8", "replace")) > KEY_BYTES_MAX or not key.isprintable():
        raise Refused("bad-key", f"`key` has at most {KEY_BYTES_MAX} bytes, all printable")
    return key


def encode(event: Event, data: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """The (key, value) of an event's record, with the data as given. Raises: Refused."""
    value = orjson.dumps({"time": event.time.isoformat(), "data": data})
    if len(value) > EVENT_BYTES_MAX:
        raise Refused("too-large", f"{len(value)} bytes; at most {EVENT_BYTES_MAX} an event")
    return event.key.encode(), value


def _field(name: str, column: StreamColumn) -> tuple[Any, Any]:
    if column.type == "text":
        kind: Any = Annotated[str, Field(strict=True, max_length=column.max_length)]
    else:
        kind = _PLAIN[column.type]
    if column.not_null:
        return kind, Field(alias=name)
    return kind | None, Field(alias=name, default=None)


def _time(value: object) -> dt.datetime:
    try:
        return _TIME.validate_python(value)
    except ValidationError:
        reason = "`time` is not a time with a zone, e.g. 2026-01-31T12:00:00Z"
        raise Refused("bad-time", reason) from None


def _message(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    messages = []
    for problem in found[:_REASONS_MAX]:
        name = problem["loc"][0] if problem["loc"] else "data"
        if problem["type"] == "extra_forbidden":
            messages.append(f"`{name}` is not a column of the contract")
        elif problem["type"] == "missing":
            messages.append(f"`{name}` is missing")
        else:
            messages.append(f"`{name}`: {problem['msg']}")
    return "; ".join(dict.fromkeys(messages))
