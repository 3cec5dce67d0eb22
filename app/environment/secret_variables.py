"""Which variables of a stack's environment hold secrets; a service gets those that it declares."""

from __future__ import annotations

# The variables that hold secrets, by the name that `secrets` of a service.toml gives them.
SECRETS: dict[str, tuple[str, ...]] = {
    "source": ("HEADWATER_SOURCE_DSN",),
    "store": ("HEADWATER_STORE_DSN",),
    "capture": (
        "HEADWATER_CAPTURE_DSN",
        "HEADWATER_CAPTURE_PASSWORD",
        "HEADWATER_CAPTURE_SSL_PASSWORD",
    ),
    "connect": ("HEADWATER_CONNECT_URL",),
    "object-store": ("HEADWATER_S3_ACCESS_KEY", "HEADWATER_S3_SECRET_KEY"),
    "mask": ("HEADWATER_MASK_SECRET",),
}
