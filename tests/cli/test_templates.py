"""gpudiff templates: by exit status and what is printed."""

from small_pair import HEADER, WCS, field, render, save

from gpudiff.__main__ import main


def test_templates_are_built_and_named(tmp_path, capsys):
    paths = [
        save(tmp_path / f"{n}.fits", render(field(), 1.7, n), {**HEADER, **WCS, "VISIT": n}) for n in (1, 2, 3)
    ]
    (tmp_path / "no.fits").write_text("not FITS")
    words = ["templates", "build", *map(str, paths), str(tmp_path / "no.fits"), "--output", str(tmp_path / "made")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"left out: {tmp_path / 'no.fits'}: " in out
    assert "1 templates of 4 exposures, 1 left out" in out
    assert (tmp_path / "made" / "any_003_150.0000+02.2000.fits").exists()


def test_nothing_to_build_from_gives_status_3(tmp_path, capsys):
    (tmp_path / "no.fits").write_text("not FITS")
    assert main(["templates", "build", str(tmp_path / "no.fits"), "--output", str(tmp_path)]) == 3
    assert "UnreadableFile" in capsys.readouterr().err
