"""Who may ask Trino: the part of the profile (`app.environment.profile.Profile`) about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from app.environment.toml_files import NATIVE


class AccessSettings(BaseModel):
    """Whether people sign in to Trino."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    access: Annotated[Literal["open", "signed"], NATIVE] = "open"
    """Who may ask Trino: `open`, everybody on this machine, under any name; `signed`, under TLS and with a password,
    and each sees what the role allows (`./headwater users`, `access.toml`): docs/governance.md."""

    @property
    def signed(self) -> bool:
        """Whether Trino needs a password, and shows each person only what their role allows."""
        return self.access == "signed"
