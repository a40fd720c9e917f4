"""Times: MJD in TAI, as every header and message carries them."""

import time

TAI_MINUS_UTC_S = 37.0
"""Since 2017-01-01 (IERS Bulletin C 52); no leap second has been announced since, and none is expected before
they are abolished by 2035 (CGPM 2022, Resolution 4)."""
UNIX_EPOCH_MJD = 40587.0


def tai_now() -> float:
    """The time now, MJD TAI, days; good to a microsecond."""
    return UNIX_EPOCH_MJD + (time.time() + TAI_MINUS_UTC_S) / 86400.0
