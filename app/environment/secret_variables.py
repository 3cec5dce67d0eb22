"""Which variables of a stack's environment hold secrets; a service gets those that it declares."""

from __future__ import annotations

from spark_streaming.storage.kafka_cluster import KAFKA_VARIABLES
from spark_streaming.storage.store_address import VARIABLES

# The variables that hold secrets, by the name that `secrets` of a service.toml gives them.
SECRETS: dict[str, tuple[str, ...]] = {
    "source": ("HEADWATER_SOURCE_DSN",),
    "store": ("HEADWATER_STORE_DSN",),
    "capture": (
        "HEADWATER_CAPTURE_DSN",
        "HEADWATER_CAPTURE_PASSWORD",
        "HEADWATER_CAPTURE_SSL_PASSWORD",
    ),
    "kafka": (KAFKA_VARIABLES["password"],),
    "connect": ("HEADWATER_CONNECT_URL",),
    "trino": ("HEADWATER_TRINO_URL",),
    "openlineage": ("HEADWATER_OPENLINEAGE_URL",),
    "object-store": (VARIABLES["access_key"], VARIABLES["secret_key"]),
    "mask": ("HEADWATER_MASK_SECRET",),
    # The settings give it by its name.
    "superset-admin": (),
    # Of a database of one's own; the settings give the stack's own by its name.
    "serving": ("HEADWATER_SERVING_DSN",),
}
