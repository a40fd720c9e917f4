"""gpudiff subtract, as its users run it: two files in, exit status, one screen and files out."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from astropy.io import fits
from small_pair import GAIN, GONE, HEADER, NEW, SIZE, WCS, images, save, save_pair

from gpudiff.__main__ import main
from gpudiff.edges.sources import read_table
from gpudiff.model.tables import DIASOURCE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run that writes everything: its folder and what it printed."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("subtract")
    science, template = save_pair(folder)
    outputs = [("-o", "d.fits"), ("--sources", "s.ecsv"), ("--plot", "r.png"), ("--json", "q.json")]
    options = [word for option, name in outputs for word in (option, str(folder / name))]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["subtract", str(science), str(template), *options]) == 0
    return folder, printed.getvalue()


@pytest.fixture
def pair(tmp_path):
    return [str(path) for path in save_pair(tmp_path)]


def unflagged(path):
    sources = read_table(path, DIASOURCE)
    return sources.take(~sources["flagged"])


def test_the_program_says_all_before_it_ends(pair):
    done = subprocess.run([sys.executable, "-m", "gpudiff", "subtract", *pair], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[-1].startswith(b"seconds ")


def test_a_closed_pipe_is_no_error(pair):
    program = [sys.executable, "-m", "gpudiff", "subtract", *pair]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(60) == 0


def test_a_plain_pair_needs_no_astropy_units_and_they_are_whole_where_they_are_asked_for(pair, tmp_path):
    outputs = ["-q", "-o", str(tmp_path / "d.fits"), "--sources", str(tmp_path / "s.ecsv")]
    code = f"""
import sys
from gpudiff.__main__ import main
main(["subtract", *{pair}, *{outputs}])
print("astropy.units" in sys.modules)
from astropy import units, wcs
print(units.Quantity("2 km").to("m"), wcs.WCS(naxis=2).wcs.naxis)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["False", "2000.0 m 2"]


def test_what_changed_is_found_where_it_is_and_nothing_else(run):
    sources = unflagged(run[0] / "s.ecsv")
    assert len(sources) == 2
    for (x, y, _), negative in ((NEW, False), (GONE, True)):
        row = int(np.argmin(np.hypot(sources["x"] - x, sources["y"] - y)))
        # 50 sigma at FWHM 4.5 px: centred to 0.04 px, 1 sigma; 5 of them
        assert np.hypot(sources["x"][row] - x, sources["y"][row] - y) < 0.2
        assert sources["isNegative"][row] == negative


def test_flux_is_right_within_its_error(run):
    sources = unflagged(run[0] / "s.ecsv").rows()
    for row in sources:
        true = -GONE[2] if row["isNegative"] else NEW[2]
        # 4 sigma, and 1 % for the kernel's own error
        assert abs(row["psfFlux"] - true) < 4 * row["psfFluxErr"] + 0.01 * NEW[2]


def test_ids_are_of_the_header_s_visit_and_detector(run):
    sources = read_table(run[0] / "s.ecsv", DIASOURCE)
    assert (sources["diaSourceId"] >> 16 == 7 << 8 | 3).all()


def test_sky_positions_follow_the_wcs(run):
    sources = unflagged(run[0] / "s.ecsv")
    assert sources["dec"] == pytest.approx(2.2 + (sources["y"] - (SIZE / 2 - 0.5)) * WCS["CD2_2"], abs=1e-7)


def test_the_difference_file_has_its_planes(run):
    with fits.open(run[0] / "d.fits") as hdus:
        names = "PRIMARY IMAGE VARIANCE MASK SCORE KERNEL PSF QA KERNEL_STARS"
        assert [hdu.name for hdu in hdus] == names.split()
        assert hdus[0].header["CONVOLVE"] == "TEMPLATE"
        assert hdus["IMAGE"].shape == (SIZE, SIZE)
        assert hdus["IMAGE"].header["CTYPE1"] == "RA---TAN"


def test_the_picture_is_a_png(run):
    assert (run[0] / "r.png").read_bytes().startswith(b"\x89PNG")


def test_the_summary_fits_one_screen_and_says_what_matters(run):
    lines = run[1].splitlines()
    assert len(lines) <= 24
    said = {line[:18].strip(): line[19:] for line in lines}
    assert said["detections"].startswith("1 positive, 1 negative")
    assert '"' in said["seeing (FWHM)"]  # arcsec, for there is a WCS
    assert {"science", "template", "convolved", "kernel stars", "kernel sum"} <= set(said)
    assert {"noise / expected", "seconds"} <= set(said)


def test_the_json_is_the_summary_for_scripts(run):
    said = json.loads((run[0] / "q.json").read_text())
    assert said["sources"]["positive"] == 1
    assert said["quality"]["convolved"] == "TEMPLATE"
    # about 25,000 blank pixels, thinned: the ratio is known to 2 %
    assert said["quality"]["noise_ratio"] == pytest.approx(1, abs=0.06)
    assert said["cells"][0]["scoreStd"] == pytest.approx(1, abs=0.2)
    assert sum(cell["nDetections"] for cell in said["cells"]) == said["sources"]["total"]
    assert (said["unit"], said["nanojansky_per_unit"]) == ("adu", None)
    assert len(said["fingerprint"]) == 32


def test_without_outputs_it_only_prints(pair, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(["subtract", *pair]) == 0
    assert "detections" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


def test_quiet_prints_nothing(pair, capsys):
    assert main(["subtract", *pair, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_command_line_wins_over_the_configuration_file(pair, tmp_path):
    (tmp_path / "c.toml").write_text("[detect]\nthreshold = 1000.0\ndecorrelate = false\n")
    options = ["--config", str(tmp_path / "c.toml"), "--threshold", "5", "-o", str(tmp_path / "d.fits"), "-q"]
    assert main(["subtract", *pair, *options]) == 0
    header = fits.getheader(tmp_path / "d.fits")
    assert header["NSOURCES"] >= 2  # not the file's threshold
    assert header["DECORR"] is False  # the file's


def test_threads_change_neither_fingerprint_nor_pixels(pair, tmp_path):
    for threads in ("1", "2"):
        options = ["--threads", threads, "-o", str(tmp_path / f"{threads}.fits"), "-q"]
        assert main(["subtract", *pair, *options]) == 0
    one, two = (fits.open(tmp_path / f"{threads}.fits") for threads in ("1", "2"))
    assert one[0].header["FPRINT"] == two[0].header["FPRINT"]
    assert np.array_equal(one["IMAGE"].data, two["IMAGE"].data, equal_nan=True)


def test_one_thread_is_one_thread(pair, tmp_path, monkeypatch):
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), start(thread)))
    options = ["-q", "-o", str(tmp_path / "d.fits"), "--sources", str(tmp_path / "s.ecsv"), "--threads", "1"]
    assert main(["subtract", *pair, *options]) == 0
    assert started == []


def test_compressed_files_with_planes_of_their_own_give_the_same_sources(pair, tmp_path, run):
    science = images()[0]
    hdu = fits.CompImageHDU(science, compression_type="GZIP_2", quantize_level=0.0)
    hdu.header.update(HEADER | WCS)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "s.fits.fz")
    mask = save(tmp_path / "m.fits", np.zeros(science.shape, np.int16), {})
    options = ["--science-mask", str(mask), "--sources", str(tmp_path / "s.csv"), "-q"]
    assert main(["subtract", str(tmp_path / "s.fits.fz"), pair[1], *options]) == 0
    same = read_table(run[0] / "s.ecsv", DIASOURCE)
    assert np.array_equal(read_table(tmp_path / "s.csv", DIASOURCE)["psfFlux"], same["psfFlux"])


def test_without_a_gain_the_variance_is_measured_and_the_summary_says_so(tmp_path, capsys):
    paths = [str(save(tmp_path / f"{n}.fits", image, {})) for n, image in enumerate(images())]
    assert main(["subtract", *paths]) == 0
    assert "measured from the sky" in capsys.readouterr().out


def test_numbers_on_the_command_line_stand_in_for_the_header(tmp_path, capsys):
    paths = [str(save(tmp_path / f"{n}.fits", image, {})) for n, image in enumerate(images())]
    options = ["--gain", str(GAIN), "--read-noise", "5", "--saturation", "60000"]
    assert main(["subtract", *paths, *options]) == 0
    assert f"variance from gain {GAIN}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--device", "cuda"], "DeviceFailed"),
        (["--device", "tpu"], "cpu, cuda or cuda:N"),
        (["--sources", "s.txt"], ".ecsv, .fits, .parquet, .csv"),
        (["-o", "d.png"], ".fits, .FITS, .fits.gz, .fits.fz"),
        (["-o", "d.fits.FZ"], ".fits, .FITS, .fits.gz, .fits.fz"),
        (["--plot", "nowhere/r.png"], "expected an existing folder"),
        (["-o", f"{251 * 'd'}.fits"], "expected a shorter name"),
        (["--json", "."], "expected the name of a file, found a folder or a device"),
        (["--gain", "-1"], "BadGain"),
        (["--read-noise", "-1"], "BadGain"),
        (["--threshold", "0"], "expected a number above 0"),
        (["--config", "absent.toml"], "expected a TOML file"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_work(pair, capsys, options, expected):
    assert main(["subtract", *pair, *options]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert expected in err


def test_an_output_never_replaces_an_input(pair, capsys):
    assert main(["subtract", *pair, "-o", pair[0]]) == 3
    assert "expected a file of its own" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["science.fits[0]", "mask.fits", "survey.toml"])
def test_nor_a_plane_s_file_nor_the_settings(pair, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    for path in ("mask.fits", "survey.toml"):
        (tmp_path / path).touch()
    inputs = ["science.fits[0]", pair[1], "--template-mask", "mask.fits", "--config", "survey.toml"]
    assert main(["subtract", *inputs, "--json", name.removesuffix("[0]")]) == 3
    assert "expected a file of its own" in capsys.readouterr().err


def test_a_link_to_itself_is_refused(pair, tmp_path, capsys):
    (tmp_path / "d.fits").symlink_to("d.fits")
    assert main(["subtract", *pair, "-o", str(tmp_path / "d.fits")]) == 3
    assert "expected the name of a file" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write into every folder
    assert main(["subtract", *pair, "-o", str(tmp_path / "d.fits")]) == 3
    assert "expected a folder that can be written" in capsys.readouterr().err


def test_a_bad_command_line_exits_2(pair):
    with pytest.raises(SystemExit) as stopped:
        main(["subtract", *pair, "--convolve", "both"])
    assert stopped.value.code == 2


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["subtract", "--help"])
    assert stopped.value.code == 0
    assert "gpudiff subtract science.fits template.fits -o difference.fits" in capsys.readouterr().out


def test_the_variable_of_the_decam_stacks_is_found(real_data, tmp_path):
    folder = real_data / "decam_pair"
    stacks = [str(folder / f"4check__Stack-DEC-OBS{epoch}.fits") for epoch in ("04", "18")]
    assert main(["subtract", *stacks, "--sources", str(tmp_path / "s.ecsv"), "-q"]) == 0
    sources = unflagged(tmp_path / "s.ecsv")
    assert np.hypot(sources["x"] - 129, sources["y"] - 128).min() < 2  # the position is given to a pixel
