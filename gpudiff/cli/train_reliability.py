"""gpudiff train-reliability: a real/bogus model from a night, or from simulated scenes."""

import argparse
from importlib.util import find_spec
from pathlib import Path

DESCRIPTION = """\
Train the model that gives every DIASource its reliability, the probability of being of the sky.

NIGHT is a folder with frames/ and templates/, as `gpudiff simulate` makes it, or a pair with science.fits and
template.fits.  Stars are put into the frames: those that are found again are real.  What is found without being
put in is bogus, unless another visit shows it at the same place, unflagged; with a truth.ecsv beside them, its
changes are real.  A sixth of the frames is held out in turn: what is said of them calibrates the model and judges
it.
"""
EPILOG = """\
examples:
  gpudiff train-reliability night1 night2 --output model.json
  gpudiff train-reliability --scenes 108 --size 768 --name simulated --output gpudiff/edges/reliability.json
      the model that ships: every hard scene with seeds 1 to 108

Use it with `gpudiff subtract --reliability model.json`, or in a file: [reliability] model = "model.json".
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("nights", nargs="*", type=Path, metavar="NIGHT", help="folders of frames and templates")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="JSON", help="the model")
    parser.add_argument("--scenes", type=int, default=0, metavar="N", help="each simulated hard scene, N seeds")
    parser.add_argument("--size", type=int, default=768, metavar="PX", help="of the scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the first one (default: %(default)s)")
    parser.add_argument("--name", default="trained", help="begins the version (default: %(default)s)")
    parser.add_argument("--config", type=Path, metavar="TOML", help="settings of the subtraction")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.reliability_model import write_model
    from gpudiff.model.config import load
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.model.reliability import BASELINE
    from gpudiff.science.reliability import calibrated
    from gpudiff.science.reliability_training import Sample, area, calibration_error, held_out_odds, join, train
    from gpudiff.services.training import folder_sample, scenes_sample

    if not arguments.nights and arguments.scenes < 1:
        raise BadConfiguration("expected a NIGHT or --scenes N to train on")
    if find_spec("sklearn") is None:  # said before the frames are subtracted, which takes long
        raise BadConfiguration("expected scikit-learn, it is not installed: pip install 'gpudiff[train]'")
    configuration = load(arguments.config)
    samples: list[Sample] = []
    if arguments.scenes:
        samples += scenes_sample(arguments.scenes, arguments.seed, arguments.size, configuration)
    for night in arguments.nights:
        samples += folder_sample(night, len(samples), arguments.seed, configuration)
    if not samples:
        raise BadConfiguration(f"{arguments.nights}: expected frames that can be subtracted, found none")
    sample = join(samples)
    model, baseline = train(sample, arguments.name), train(sample, "baseline", BASELINE)
    write_model(arguments.output, model)
    print(
        f"{arguments.output}: {model.version}, {model.real} real and {model.bogus} bogus of {len(samples)} frames"
    )
    for what, one, only in (("model", model, None), ("baseline", baseline, BASELINE)):
        odds = held_out_odds(sample, only)
        error = calibration_error(calibrated(one, odds), sample.real)
        print(f"  {what:<9} held out: area under ROC {area(odds, sample.real):.4f}, calibration error {error:.3f}")
    return 0
