"""Where alerts are sent: the part of the profile (`app.environment.profile.Profile`) about them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class AlertSettings(BaseModel):
    """Addresses, the mail server, and how soon alerts are sent; unset addresses get no alerts.

    Alerts on the data itself go to the addresses of `data_alert_*`, which are data engineering's;
    without any of these they go to the general ones. The URLs are secrets.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    alert_webhook_url: SecretStr | None = None
    """A URL that takes each notification as a POST of JSON."""
    alert_slack_url: SecretStr | None = None
    """A Slack incoming webhook."""
    alert_email_to: str | None = None
    """An address that gets them by mail."""
    data_alert_webhook_url: SecretStr | None = None
    """Like `alert_webhook_url`, for alerts on the data itself."""
    data_alert_slack_url: SecretStr | None = None
    """Like `alert_slack_url`, for alerts on the data itself."""
    data_alert_email_to: str | None = None
    """Like `alert_email_to`, for alerts on the data itself."""
    alert_email_from: str = "headwater@localhost"
    """The sender of mail."""
    alert_smtp: str = Field(default="127.0.0.1:25", pattern=r"^[^:\s]+:\d+$")
    """The mail server, `host:port`; one for all addresses."""
    alert_smtp_user: str | None = None
    """The user at the mail server."""
    alert_smtp_password: SecretStr | None = None
    """The password there."""
    alert_runbook_url: str | None = Field(default=None, pattern=r"^https?://[^#\s]+$")
    """The page that has the runbook's sections, to which a notification links; unset: the stack's own."""
    alert_wait_factor: float = Field(default=1.0, ge=0.05, le=10)
    """Times the wait of each alert before it is sent: 0.5 sends twice as soon."""
    alert_mute_weekends: bool = False
    """Whether warnings wait from Saturday to Monday (UTC)."""
