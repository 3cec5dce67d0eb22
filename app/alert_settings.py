"""Who is told of alerts, as a user sets it: a part of the profile (`app.settings.Profile`)."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


class AlertSettings(BaseModel):
    """Addresses, the mail server, and how soon; each is left out where it is not set.

    The addresses for `data_alert_*` are data engineering's, who is told of what is about the data
    itself; without any of them the general ones are told of that too. The URLs are secrets.
    """

    alert_webhook_url: SecretStr | None = None
    alert_slack_url: SecretStr | None = None
    alert_email_to: str | None = None
    data_alert_webhook_url: SecretStr | None = None
    data_alert_slack_url: SecretStr | None = None
    data_alert_email_to: str | None = None
    # One mail server for all.
    alert_email_from: str = "headwater@localhost"
    alert_smtp: str = Field(default="127.0.0.1:25", pattern=r"^[^:\s]+:\d+$")
    alert_smtp_user: str | None = None
    alert_smtp_password: SecretStr | None = None
    # The page that has the runbook's sections, as a notification links to it. None: the stack's own.
    alert_runbook_url: str | None = Field(default=None, pattern=r"^https?://[^#\s]+$")
    # Of the time that each alert waits before it is told; and whether warnings wait for Monday.
    alert_wait_factor: float = Field(default=1.0, ge=0.05, le=10)
    alert_mute_weekends: bool = False
