"""The settings of Atlas: how often it works, how fast, and when garbage is dead."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.limits import MIB
from .errors import SettingsError

INTERVAL_S_DEFAULT = 600.0
GRACE_S_DEFAULT = 3600.0
RATE_MIB_DEFAULT = 20.0
UPLOAD_DAYS_DEFAULT = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSettings:
    """`interval_s` 0: only when asked. `grace_s`: what was freed that long ago is read by nobody.
    `bytes_per_s` 0: no limit. `upload_days`: uploads older than that are aborted, 0: never.
    `live_share`: a log segment that holds less than that is emptied. `base_log_bytes`: a base is
    due when the log since the last one is longer than that and than half the view. A chunk segment
    made `cold_after_s` ago is moved to the pool for old ones, where there is one.
    """

    interval_s: float = INTERVAL_S_DEFAULT
    grace_s: float = GRACE_S_DEFAULT
    bytes_per_s: int = int(RATE_MIB_DEFAULT * MIB)
    upload_days: float = UPLOAD_DAYS_DEFAULT
    live_share: float = 0.5
    base_log_bytes: int = 256 * MIB
    compact_every_s: float = 3600.0
    cool_every_s: float = 6 * 3600.0
    cold_after_s: float = 7 * 86_400.0
    uploads_every_s: float = 3600.0
    orphans_every_s: float = 86_400.0
    scrub_every_s: float = 7 * 86_400.0
    scrub_slice_s: float = 300.0


def atlas_settings(
    *, interval: float, grace: float, rate: float, upload_days: float
) -> AtlasSettings:
    """Check what the command line gives: seconds, seconds, MiB a second, days.

    Raises: SettingsError.
    """
    _check(interval == 0 or 1 <= interval <= 86_400, "--atlas-interval", interval, "1 to 86400")
    _check(0 <= grace <= 30 * 86_400, "--atlas-grace", grace, "0 to 2592000 seconds")
    _check(0 <= rate <= 100_000, "--atlas-rate", rate, "0 to 100000 MiB/s")
    _check(0 <= upload_days <= 3650, "--upload-days", upload_days, "0 to 3650 days")
    return AtlasSettings(
        interval_s=interval, grace_s=grace, bytes_per_s=int(rate * MIB), upload_days=upload_days
    )


def _check(holds: bool, setting: str, value: float, right: str) -> None:
    if not holds:
        raise SettingsError(setting, str(value), right)
