"""Real frames: what `gpudiff` makes of them, and what was promised.  Takes one minute.

rubin_stamps   26 cutouts of 30 px with given PSFs and variance against the observatory's own difference.  Goal:
               on those whose template is bright (peak above 5 sigma, 10 px or more above 3), the median over the
               stamps of rms((ours - theirs) / sigma) on the template's light is 0.9 at most.
decam_pair     two stacks with five bright stars, and the peer's difference of the same stacks.  Goal: fewer peaks
               of 5 sigma within 8 px of the stars, by one filter for both; fainter residuals (rms within 6 px);
               the variable found, unflagged.
eso085_pair    nothing changed.  Goal: 2 unflagged detections at most, score std 1 +- 0.05, both ways round.
ztf_stamps     324 cutouts of 63 px.  Goal: sign and flux of the alert's.

The frames are in ../shared/data, or in the folder that GPUDIFF_DATA names.
"""

import statistics
from pathlib import Path
from typing import Any

import _common as common
import _stamps as stamps
import numpy as np
from astropy.io import fits
from scipy.ndimage import gaussian_filter, maximum_filter

from gpudiff.edges.fits import read_frame
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import InputRejected
from gpudiff.model.frame import Difference
from gpudiff.model.tables import Table
from gpudiff.science.subtract import subtract

VARIABLE = 128, 129
STARS = (181, 58), (73, 101), (126, 5), (233, 105), (202, 179)
"""y, x of the DECam variable and of the five brightest stars."""
REAL = 0.65
"""The alert stream's own score above which a ZTF alert counts as real here."""


def rubin(folder: Path) -> dict[str, Any]:
    """Residual against the observatory's difference."""
    rows = [{"stamp": name, **stamps.rubin_residual(*given)} for name, *given in stamps.rubin(folder)]
    bright = [row for row in rows if row["template_peak"] > 5 and row["light"] >= 10]
    middle = {key: statistics.median(row[key] for row in bright) for key in ("rms", "median", "ours", "theirs")}
    print(f"rubin_stamps: {len(rows)} stamps, {len(bright)} with a bright template")
    print(
        f"  median rms of (ours - theirs) / sigma on its light  {middle['rms']:.2f}  {_said(middle['rms'] <= 0.9)}"
    )
    print(f"  median |ours - theirs| / sigma, all pixels          {middle['median']:.2f}")
    print(f"  rms of a difference there: ours {middle['ours']:.2f}, theirs {middle['theirs']:.2f} sigma")
    return {"stamps": rows, "bright": len(bright), **middle}


def decam(folder: Path) -> dict[str, Any]:
    """Residuals of the five stars in our plain difference and in the peer's."""
    inputs = [folder / "decam_pair" / f"4check__Stack-DEC-OBS{night}.fits" for night in ("04", "18")]
    made, sources = subtracted(*inputs, decorrelate=False)
    peer = np.asarray(fits.getdata(folder / "decam_pair" / "4check__FinalDifference.fits"), float)
    quality, rows = made.quality, []
    for y, x in STARS:
        disc = stamps.at(made, y, x, 6)
        ratio = float(np.sqrt((made.image[disc] ** 2).mean() / (peer[disc] ** 2).mean()))
        peaks = [five_sigma_peaks(image, made, y, x) for image in (made.image, peer)]
        rows.append({"y": y, "x": x, "rms_over_peer": ratio, "peaks": peaks[0], "peer_peaks": peaks[1]})
    ratio = statistics.median(row["rms_over_peer"] for row in rows)
    fewer = sum(row["peaks"] for row in rows), sum(row["peer_peaks"] for row in rows)
    near = np.hypot(sources["y"] - VARIABLE[0], sources["x"] - VARIABLE[1]) < 2
    found = int(near.sum()) == 1 and not sources["flagged"][near].any()
    others = int((~sources["flagged"] & ~near).sum())
    said = f"{quality.candidates_used} stars, {quality.basis_functions} functions, spatial order"
    print(f"decam_pair: {said} {quality.spatial_order}")
    each = " ".join(f"{row['rms_over_peer']:.2f}" for row in rows)
    print(f"  rms at the five stars over the peer's  {each}, median {ratio:.2f}  {_said(ratio < 1)}")
    print(f"  peaks of 5 sigma beside them: {fewer[0]}, in the peer's {fewer[1]}  {_said(fewer[0] < fewer[1])}")
    print(f"  the variable found, unflagged: {found}; other unflagged detections: {others}  {_said(found)}")
    return {"stars": rows, "median_ratio": ratio, "peaks": fewer, "variable_found": found, "unflagged": others}


def five_sigma_peaks(image: np.ndarray, made: Difference, y: int, x: int) -> int:
    """Peaks of either sign above 5 sigma of blank sky within 8 px, smoothed by a Gaussian as wide as the PSF."""
    smooth = gaussian_filter(np.nan_to_num(image), made.quality.science_fwhm / 2.355)
    blank = np.isfinite(made.image) & (made.matched < 10)
    size = np.abs(smooth) / (1.4826 * np.median(np.abs(smooth[blank])))
    peak = (size == maximum_filter(size, 5)) & (size > 5)
    return int((peak & stamps.at(made, y, x, 8)).sum())


def eso(folder: Path) -> dict[str, Any]:
    """A pair in which nothing changed, both ways round."""
    paths = [folder / "eso085_pair" / f"aligned_eso085-030-{number}.fit" for number in ("004", "005")]
    out: dict[str, Any] = {}
    for name, pair in (("forth", paths), ("back", paths[::-1])):
        made, sources = subtracted(*pair)
        unflagged, std = int((~sources["flagged"]).sum()), made.quality.score_std
        good = unflagged <= 2 and abs(std - 1) <= 0.05
        print(f"eso085_pair, {name}: {unflagged} unflagged of {len(sources)}, score std {std:.3f}  {_said(good)}")
        out[name] = {"unflagged": unflagged, "detections": len(sources), "score_std": std}
    return out


def ztf(folder: Path) -> dict[str, Any]:
    """Sign and flux of the detections at the middle."""
    rows, refused = [], 0
    for meta, science, template in stamps.ztf(folder):
        try:
            rows.append({"rb": float(meta["rb"]), **stamps.ztf_detection(meta, science, template)})
        except InputRejected:
            refused += 1
    print(f"ztf_stamps: {len(rows)} subtracted, {refused} refused (more than 40 % without pixels)")
    out: dict[str, Any] = {"subtracted": len(rows), "refused": refused}
    for name, chosen in (("all", rows), ("likely real", [row for row in rows if row["rb"] > REAL])):
        out[name] = of_alerts(chosen)
        line = (
            "{found} of {alerts} found; sign right for {sign}, for {sign_unflagged} of the {unflagged} unflagged"
        )
        print(f"  {name}: " + line.format(**out[name]))
        print("    flux over the alert's: median {flux_ratio:.3f}, scatter {flux_scatter:.2f}".format(**out[name]))
    return out


def of_alerts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over alerts, and the flux ratio of the unflagged ones."""
    found = [row for row in rows if "sign" in row]
    plain = [row for row in found if not row["flagged"]]
    ratio = np.array([row["flux_ratio"] for row in plain if np.isfinite(row["flux_ratio"])])
    return {
        "alerts": len(rows),
        "found": len(found),
        "sign": sum(row["sign"] for row in found),
        "unflagged": len(plain),
        "sign_unflagged": sum(row["sign"] for row in plain),
        "flux_ratio": float(np.median(ratio)),
        "flux_scatter": float(1.4826 * np.median(np.abs(ratio - np.median(ratio)))),
    }


def subtracted(science: Path, template: Path, decorrelate: bool = True) -> tuple[Difference, Table]:
    """Two files, default settings on one thread."""
    settings = override(Configuration(), "match", threads=1)
    settings = override(settings, "detect", decorrelate=decorrelate)
    return subtract(*(read_frame(path, settings.instrument) for path in (science, template)), settings)


def _said(good: bool) -> str:
    return "pass" if good else "FAIL"


def main() -> None:
    options = common.arguments(__doc__).parse_args()
    folder = common.data()
    if not folder.is_dir():
        print(f"nothing measured: expected real frames in {folder} (set GPUDIFF_DATA)")
        return
    document = {part.__name__: part(folder) for part in (rubin, decam, eso, ztf)}
    common.record(__file__, document, options)


if __name__ == "__main__":
    main()
