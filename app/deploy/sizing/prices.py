"""What nodes, disks and requests cost: `prices.toml`, or a file of the user's."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from app.deploy.sizing.coefficients import parse

PRICES = Path(__file__).with_name("prices.toml")


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Node(_Closed):
    """A machine, and how much of it may be used."""

    cores: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    per_hour: float = Field(ge=0)
    cores_used_max: float = Field(gt=0, le=1)
    memory_used_max: float = Field(gt=0, le=1)

    @property
    def silver_cores(self) -> float:
        """The share of a node that silver may use: half, because on one node all else runs there, too."""
        return self.cores / 2


class Disk(_Closed):
    """A disk of Kafka's, and how full it may get."""

    per_gib_month: float = Field(ge=0)
    used_max: float = Field(gt=0, le=1)


class Store(_Closed):
    """The object store."""

    per_gib_month: float = Field(ge=0)
    per_1000_writes: float = Field(ge=0)
    per_1000_reads: float = Field(ge=0)
    writes_per_second_max: float = Field(gt=0)


class Prices(_Closed):
    """All prices, in one currency."""

    currency: str
    node: Node
    disk: Disk
    store: Store


def read_prices(path: Path = PRICES) -> Prices:
    """Read a file of prices. Raises: SettingsError that names the key."""
    return parse(Prices, path)
