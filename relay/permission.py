"""Permissions: which peer IP addresses an allocation may exchange data with (RFC 8656 §9)."""

from typing import Final

LIFETIME: Final = 300.0  # seconds (RFC 8656 §9)


class Permission:
    """Lets one peer IP address through until it expires; refreshed by CreatePermission and ChannelBind."""

    __slots__ = ("expires_at",)

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at
