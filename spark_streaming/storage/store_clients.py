"""The options of each client of the object store, made from its address; they are nowhere else.

The clients are Hadoop (Spark), delta-rs, pyarrow, Trino and the bronze sink; for Java see
`connect/bronze-sink` and `app/readers/java`. Options that hold a key are never printed.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from spark_streaming.storage.store_address import VARIABLES, ObjectStore

_LOG_STORE = "dev.headwater.spark.ConditionalPutLogStore"


def delta_options(store: ObjectStore) -> dict[str, str]:
    """Return delta-rs' storage options, for reading; they hold the secret key."""
    options = {"AWS_REGION": store.region, "AWS_ALLOW_HTTP": str(store.plain_http).lower()}
    if store.endpoint:
        options["AWS_ENDPOINT_URL"] = store.endpoint
    if store.access_key:
        options["AWS_ACCESS_KEY_ID"] = store.access_key
        options["AWS_SECRET_ACCESS_KEY"] = store.secret_key
    return options


def delta_writer_options(store: ObjectStore) -> dict[str, str]:
    """Return delta-rs' storage options for a writer; they hold the secret key."""
    # A commit is a put that fails if the version exists: writers never overwrite each other's
    # commits.
    return {**delta_options(store), "aws_conditional_put": "etag"}


def arrow_files(store: ObjectStore, folder: str) -> Any:
    """Return a pyarrow file system rooted at a folder, `bucket/` or `bucket/path/`."""
    import pyarrow.fs as pa_fs

    files = pa_fs.S3FileSystem(
        access_key=store.access_key,
        secret_key=store.secret_key,
        region=store.region,
        endpoint_override=store.endpoint,
        connect_timeout=5,
        request_timeout=30,
        tls_ca_file_path=os.environ.get(
            "SSL_CERT_FILE"
        ),  # pyarrow itself reads this variable only when it is imported
    )
    return pa_fs.SubTreeFileSystem(folder, files)


def objects_below(store: ObjectStore, bucket: str, folder: str) -> Any:
    """Return obstore's client for the objects below a folder: the store's client inside delta-rs, by itself."""
    from obstore.store import S3Store

    return S3Store(
        bucket,
        prefix=folder,
        config={
            "region": store.region,
            **({"endpoint": store.endpoint} if store.endpoint else {}),
            **({"access_key_id": store.access_key} if store.access_key else {}),
            **({"secret_access_key": store.secret_key} if store.access_key else {}),
            "virtual_hosted_style_request": False,
            "conditional_put": "etag",
        },
        client_options={
            "allow_http": store.plain_http,
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=30),
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=20)},
    )


def hadoop_url(url: str) -> str:
    """Return an address as Hadoop spells it: its file system for S3 has the scheme s3a."""
    return url.replace("s3://", "s3a://", 1)


def spark_options(store: ObjectStore) -> dict[str, str]:
    """Return a Spark session's configuration for reading the store; without keys."""
    options = {
        "endpoint": store.endpoint,
        "endpoint.region": store.region,
        "path.style.access": "true",
        "connection.ssl.enabled": str(not store.plain_http).lower(),
    }
    if store.access_key:
        provider = "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
        options["aws.credentials.provider"] = provider
    return {f"spark.hadoop.fs.s3a.{name}": value for name, value in options.items() if value}


def spark_writer_options(store: ObjectStore) -> dict[str, str]:
    """Return the streaming job's configuration for the store; without keys."""
    limits = {
        # The embedded store holds each part in memory: larger parts kill it.
        "multipart.size": "16M",
        "multipart.threshold": "16M",
        "fast.upload.buffer": "bytebuffer",
        # Each path has one writer, so checks before each create would be useless round trips.
        "performance.flags": "create,mkdir",
        "connection.maximum": "32",
        "attempts.maximum": "5",
        "retry.limit": "4",
    }
    return {
        **spark_options(store),
        **{f"spark.hadoop.fs.s3a.{name}": value for name, value in limits.items()},
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.delta.logStore.s3a.impl": _LOG_STORE,
        "spark.delta.logStore.s3.impl": _LOG_STORE,
    }


def give_keys(session: Any, store: ObjectStore) -> None:
    """Give a Spark session that runs the store's keys.

    They are not part of its configuration, which pyspark puts on the JVM's command line.
    """
    if store.access_key:
        hadoop = session.sparkContext._jsc.hadoopConfiguration()
        hadoop.set("fs.s3a.access.key", store.access_key)
        hadoop.set("fs.s3a.secret.key", store.secret_key)


def trino_properties() -> str:
    """Return a Trino catalog's lines for the store; Trino reads address and keys itself."""
    lines = {"fs.native-s3.enabled": "true"}
    for key, name in (
        ("s3.endpoint", "endpoint"),
        ("s3.region", "region"),
        ("s3.aws-access-key", "access_key"),
        ("s3.aws-secret-key", "secret_key"),
    ):
        lines[key] = f"${{ENV:{VARIABLES[name]}}}"
    lines["s3.path-style-access"] = "true"
    return "\n".join(f"{key}={value}" for key, value in lines.items())


def sink_options() -> dict[str, str]:
    """Return the bronze sink's settings for the store; the worker reads address and keys itself."""
    return {
        key: f"${{env:{VARIABLES[name]}}}"
        for key, name in (
            ("bucket", "bronze_bucket"),
            ("s3.endpoint", "endpoint"),
            ("s3.region", "region"),
            ("s3.access.key", "access_key"),
            ("s3.secret.key", "secret_key"),
        )
    }
