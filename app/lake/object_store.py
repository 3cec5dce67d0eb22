"""Checks a user's own object store: before anything is started on it, or Google's through the service `s3`.

1. Does it answer, and are the keys right?
2. Does each bucket exist? If `--apply` allows it, make the missing ones.
3. In each bucket: put an object on a condition, put it again (the store must refuse), get it, list
   it, delete it.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import requests

from app.environment.settings import Settings
from app.errors import HeadwaterError
from spark_streaming.storage.conditional_puts import (
    ONLY_IF_FREE,
    OverwritingStore,
    prove_conditional_puts,
)
from spark_streaming.storage.s3_request import Answer, ask
from spark_streaming.storage.store_address import ObjectStore

OK, NOTE, MISSING = "ok", "note", "missing"  # the words of the source's preflight
FOLDER = "_headwater"
BODY = b"headwater looks whether it may write here; it may be deleted\n"
AWS_DEFAULT_REGION = "us-east-1"
_CONDITION = (
    "writers of bronze and of Delta tables need it to avoid overwriting each other: use a store, "
    "or a version of it, that honours `If-None-Match: *`"
)

_ASKED_LATER = "Google's buckets are checked by the service s3 at its start; it does not run"

# S3's code → what to do about it.
_HINTS = {
    "InvalidAccessKeyId": "check s3_access_key in the profile",
    "SignatureDoesNotMatch": "check s3_secret_key in the profile, and s3_region",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "AuthorizationHeaderMalformed": "set s3_region in the profile to the bucket's region",
    "PermanentRedirect": "set s3_region and s3_endpoint in the profile to the bucket's region",
    "IllegalLocationConstraintException": "set s3_region in the profile to the endpoint's region",
    "BucketAlreadyExists": "somebody else has a bucket of this name: choose another by "
    "bronze_bucket or lake_bucket in the profile",
}
_NETWORK_HINTS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not one that this machine trusts"),
    ("SSL", "does it speak TLS there? http:// and https:// in s3_endpoint differ"),
    ("refused", "is the store running, and is this its port?"),
    ("timed out", "is it reachable from here, and does a firewall let the port through?"),
    ("resolve", "check the host in s3_endpoint"),
)


@dataclass(frozen=True)
class Finding:
    """The result of one check: its status, the observation, and the repair."""

    check: str
    status: str
    observed: str
    remedy: str = ""


def ensure_ready(settings: Settings) -> None:
    """Check that the object store can be used; make its buckets first if `--apply` was given.

    Raises: HeadwaterError that lists the missing requirements, with the observation and what to do.
    """
    findings = examine(settings, apply=settings.profile.apply)
    missing = [one for one in findings if one.status == MISSING]
    if missing:
        raise HeadwaterError(
            f"the object store at {settings.store.endpoint} is not ready to be used",
            detail="\n".join(f"{one.check}: {one.observed}\n  {one.remedy}" for one in missing),
            hint="`headwater preflight` shows everything",
        )
    for one in findings:
        if one.status == NOTE:
            print(f"{one.check}: {one.observed}\n  hint: {one.remedy}", file=sys.stderr)


def refuse_overwriting(store: ObjectStore) -> None:
    """Refuse to write to a store that lets a second put of a taken name pass.

    An unreachable store is not refused here: each writer proves it later (`Lake.for_writing`).
    Raises: HeadwaterError.
    """
    try:
        prove_conditional_puts(store, store.lake_bucket)
    except OverwritingStore as error:
        message, _, hint = str(error).partition("\nhint: ")
        raise HeadwaterError(message, hint=hint) from error
    except OSError:
        return


def examine(settings: Settings, *, apply: bool) -> list[Finding]:
    """Run all checks; with `apply` make missing buckets."""
    profile = settings.profile
    given = (profile.s3_access_key, profile.s3_secret_key)
    if not profile.embedded_s3 and None in given:
        seen = "the profile names an s3_endpoint, and no s3_access_key or no s3_secret_key"
        return [Finding("object store", MISSING, seen, "put both keys into the profile")]
    store = settings.store
    buckets = dict.fromkeys((store.bronze_bucket, store.lake_bucket))
    try:
        return [
            finding
            for bucket in buckets
            for finding in _check_bucket(store, bucket, apply, deletes=bucket == store.lake_bucket)
        ]
    except requests.RequestException as error:
        if profile.embedded_s3:
            return [Finding("object store", NOTE, _ASKED_LATER, "./headwater up --only s3")]
        return [_unreachable(store, error)]


def _check_bucket(
    store: ObjectStore, bucket: str, apply: bool, *, deletes: bool
) -> Iterator[Finding]:
    check = f"bucket {bucket}"
    listed = ask(store, "GET", bucket, query={"list-type": "2", "max-keys": "1"})
    made = False
    if listed.code == "NoSuchBucket" and apply:
        answer = _make(store, bucket)
        if not answer.ok:
            yield _refused(check, "cannot be made", answer, "s3:CreateBucket", bucket)
            return
        made = True
        print(f"applied: made bucket {bucket}", file=sys.stderr)
        listed = ask(store, "GET", bucket, query={"list-type": "2", "max-keys": "1"})
    if listed.code == "NoSuchBucket":
        yield Finding(check, MISSING, "is not there", f"{_command(store, bucket)}\n  (or --apply)")
        return
    if not listed.ok:
        yield _refused(check, "cannot be listed", listed, "s3:ListBucket", bucket)
        return
    yield Finding(check, OK, "was made" if made else "is there")
    yield from _check_objects(
        store, bucket, f"{FOLDER}/preflight-{secrets.token_hex(8)}", deletes=deletes
    )


def _check_objects(
    store: ObjectStore, bucket: str, key: str, *, deletes: bool
) -> Iterator[Finding]:
    """Put, put again, get, list and delete one object; a refused put ends the checks."""
    check = f"objects of {bucket}"
    put = ask(store, "PUT", bucket, key, body=BODY, headers=ONLY_IF_FREE)
    if put.status == 501 or put.code == "NotImplemented":
        yield Finding(check, MISSING, f"a put on a condition: {put.summary()}", _CONDITION)
        return
    if not put.ok:
        yield _refused(check, "cannot be put", put, "s3:PutObject", bucket)
        return
    try:
        yield from _check_reading(store, bucket, key)
    finally:
        deleted = ask(store, "DELETE", bucket, key)
    if deleted.ok:
        yield Finding(check, OK, "can be deleted")
    else:
        # The stack never deletes bronze; of the lake it deletes old files and log entries.
        finding = _refused(check, "cannot be deleted", deleted, "s3:DeleteObject", bucket)
        status = MISSING if deletes else NOTE
        yield Finding(check, status, f"{finding.observed}; {key} stays", finding.remedy)


def _check_reading(store: ObjectStore, bucket: str, key: str) -> Iterator[Finding]:
    check = f"objects of {bucket}"
    again = ask(store, "PUT", bucket, key, body=BODY, headers=ONLY_IF_FREE)
    if again.status in (409, 412):
        yield Finding(check, OK, f"a name that is taken is not put again ({again.summary()})")
    else:
        seen = f"a put with `If-None-Match: *` on a name that is taken: {again.summary()}, not 412"
        yield Finding(check, MISSING, seen, _CONDITION)
    got = ask(store, "GET", bucket, key)
    if got.ok and got.body == BODY:
        yield Finding(check, OK, "come back as they were put")
    elif got.ok:
        seen = f"{len(got.body)} bytes came back of {len(BODY)} that were put"
        yield Finding(check, MISSING, seen, "something between changes objects: find it")
    else:
        yield _refused(check, "cannot be read", got, "s3:GetObject", bucket)
    listed = ask(store, "GET", bucket, query={"list-type": "2", "prefix": key})
    if listed.ok and key.encode() in listed.body:
        yield Finding(check, OK, "are listed at once")
    elif listed.ok:
        seen = "an object that was just put is not listed"
        yield Finding(
            check, MISSING, seen, "use a store whose listings include every object at once"
        )
    else:
        yield _refused(check, "cannot be listed", listed, "s3:ListBucket", bucket)


def _make(store: ObjectStore, bucket: str) -> Answer:
    body = b""
    if store.region != AWS_DEFAULT_REGION:
        where = f"<LocationConstraint>{store.region}</LocationConstraint>"
        body = f"<CreateBucketConfiguration>{where}</CreateBucketConfiguration>".encode()
    return ask(store, "PUT", bucket, body=body)


def _command(store: ObjectStore, bucket: str) -> str:
    """Return the shell command that makes a bucket."""
    text = f"aws s3api create-bucket --bucket {bucket} --endpoint-url {store.endpoint}"
    if store.region == AWS_DEFAULT_REGION:
        return text
    where = f"LocationConstraint={store.region}"
    return f"{text} --region {store.region} --create-bucket-configuration {where}"


def _refused(check: str, what: str, answer: Answer, action: str, bucket: str) -> Finding:
    hint = _HINTS.get(answer.code)
    if hint is None and answer.status in (401, 403):
        on = f"arn:aws:s3:::{bucket}" + ("/*" if "Object" in action else "")
        hint = f"allow {action} on {on} to this key"
    if hint is None and not answer.code:
        hint = "it does not answer as an S3 store does: check s3_endpoint in the profile"
    return Finding(check, MISSING, f"{what}: {answer.summary()}", hint or "see the store's own log")


def _unreachable(store: ObjectStore, error: requests.RequestException) -> Finding:
    reason = str(error)
    hint = next((hint for text, hint in _NETWORK_HINTS if text in reason), "check s3_endpoint")
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return Finding("object store", MISSING, f"{store.endpoint}: {cause}", hint)
