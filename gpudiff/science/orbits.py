"""Orbits: from elements to states, and from their epoch to a night, with the planets' pull.

Heliocentric, ICRS axes, AU and days.  SciPy integrates (DOP853: Hairer, Norsett & Wanner 1993), the planets'
places are those of ERFA (plan94: Simon et al. 1994, A&A 282, 663; good to arcminutes, which is enough for a pull).
General relativity and the pull of asteroids are left out.  Measured on the Earth with its Moon against ERFA: 0.003
arcsec off after 30 days, 0.05 after 200, as seen from the Sun; two bodies alone are 0.35 and 26 arcsec off.
"""

import erfa
import numpy as np
from scipy.integrate import solve_ivp

GAUSS = 0.01720209895**2
"""The Sun's pull, AU^3 / d^2 (IAU 1976; that of 2009 differs by 1e-11)."""
SHARE = 1 / np.array([6023600.0, 408523.72, 328900.56, 3098703.6, 1047.3486, 3497.898, 22902.98, 19412.24])
"""Masses of the planets over the Sun's, Mercury to Neptune, the Earth with its Moon (IAU 2009, TM 2009)."""
OBLIQUITY = np.radians(84381.448 / 3600)
"""Of the ecliptic of J2000 (IAU 1976), to which elements refer."""
MJD_ZERO = 2400000.5
TOLERANCE = 1e-10
"""Relative, of the integration: 0.02 milliarcsec a step."""
ROUND = 20000
"""Orbits that are integrated together."""


def states_of(elements: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 6) position and velocity from Keplerian elements.

    elements : a (AU), e (below 1), i, node, peri, m: inclination, ascending node, argument of perihelion and mean
        anomaly in degrees, ecliptic and equinox of J2000
    """
    a, e = elements["a"], elements["e"]
    i, node, peri, m = (np.radians(elements[name]) for name in ("i", "node", "peri", "m"))
    anomaly = _eccentric_anomaly(np.remainder(m + np.pi, 2 * np.pi) - np.pi, e)
    cos, sin, minor = np.cos(anomaly), np.sin(anomaly), np.sqrt(1 - e * e)
    rate = np.sqrt(GAUSS / a) / (1 - e * cos)
    plane = np.stack([a * (cos - e), a * minor * sin, -rate * sin, rate * minor * cos], -1)
    p = np.stack(_turned(np.cos(peri), np.sin(peri), i, node), -1)
    q = np.stack(_turned(-np.sin(peri), np.cos(peri), i, node), -1)
    return np.hstack([plane[:, :1] * p + plane[:, 1:2] * q, plane[:, 2:3] * p + plane[:, 3:] * q])


def equatorial(states: np.ndarray) -> np.ndarray:
    """(N, 6) states in ICRS axes from those along the ecliptic of J2000."""
    x, y, z = states.reshape(len(states), 2, 3).transpose(2, 0, 1)
    cos, sin = np.cos(OBLIQUITY), np.sin(OBLIQUITY)
    return np.stack([x, y * cos - z * sin, y * sin + z * cos], -1).reshape(len(states), 6)


def propagate(states: np.ndarray, epoch: float, times: np.ndarray, planet: int | None = None) -> np.ndarray:
    """(T, N, 6) states at times, MJD TT, of orbits with one epoch.

    states : (N, 6) at `epoch`, MJD TT, ICRS axes
    planet : the one whose orbit it is, 0 for Mercury; None: a small body's
    Times may lie on both sides of the epoch.
    """
    made = np.empty((len(times), *states.shape))
    for start in range(0, len(states), ROUND):
        part = states[start : start + ROUND]
        for side in (times <= epoch, times > epoch):
            order = np.flatnonzero(side)
            order = order[np.argsort(np.abs(times[order] - epoch), kind="stable")]
            if order.size:
                made[order, start : start + ROUND] = _integrated(part, epoch, times[order], planet)
    return made


def planets(mjd_tt: float) -> np.ndarray:
    """(8, 3) heliocentric places of Mercury to Neptune, AU, ICRS axes; the third is Earth with its Moon."""
    return erfa.plan94(MJD_ZERO, mjd_tt, np.arange(1, 9))["p"]


def _integrated(states: np.ndarray, epoch: float, times: np.ndarray, planet: int | None) -> np.ndarray:
    share, sun = SHARE.copy(), 1.0
    if planet is not None:
        share[planet], sun = 0, 1 + SHARE[planet]

    def pull(time: float, flat: np.ndarray) -> np.ndarray:
        place, velocity = flat.reshape(2, 3, -1)
        there = planets(time)
        total = -GAUSS * sun * place / np.sum(place * place, 0) ** 1.5
        for one, mass in zip(there, GAUSS * share, strict=True):
            off = one[:, None] - place
            total += mass * (off / np.sum(off * off, 0) ** 1.5 - (one / np.sum(one * one) ** 1.5)[:, None])
        return np.concatenate([velocity, total]).reshape(-1)

    if times[-1] == epoch:
        return np.broadcast_to(states, (len(times), *states.shape))
    start = np.ascontiguousarray(states.T).reshape(-1)
    done = solve_ivp(pull, (epoch, times[-1]), start, "DOP853", times, rtol=TOLERANCE, atol=1e-12)
    return done.y.reshape(6, len(states), len(times)).transpose(2, 1, 0)


def _eccentric_anomaly(m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Kepler's equation by Newton's method, from a start that converges for every e below 1."""
    anomaly = np.where(e < 0.8, m, np.pi * np.sign(m))
    for _ in range(30):
        anomaly = anomaly - (anomaly - e * np.sin(anomaly) - m) / (1 - e * np.cos(anomaly))
    return anomaly


def _turned(x: np.ndarray, y: np.ndarray, i: np.ndarray, node: np.ndarray) -> tuple[np.ndarray, ...]:
    """A vector of the orbit's plane along the ecliptic's axes."""
    rising = y * np.cos(i)
    return x * np.cos(node) - rising * np.sin(node), x * np.sin(node) + rising * np.cos(node), y * np.sin(i)
