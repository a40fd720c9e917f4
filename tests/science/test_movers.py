"""gpudiff.science.associate: Solar System objects, trails, tonight's objects."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.model.association import KNOWN, MOVING, NEW, TONIGHT
from gpudiff.model.tables import DIAOBJECT, PREDICTED, Table
from gpudiff.science.associate import associate
from gpudiff.science.objects import new_objects

ARCSEC = 1 / 3600
NOW = 61007.0
NOTHING = Table.empty(DIAOBJECT)


def at(east, north=0.0, error=0.1, visit=7, **columns) -> Table:
    """Sources some arcsec from (0, 0) at MJD 61000 + visit."""
    east = np.atleast_1d(east)
    place = {"ra": east * ARCSEC, "dec": np.zeros(len(east)) + np.asarray(north) * ARCSEC}
    return a_sources(len(east), visit, raErr=error * ARCSEC, decErr=error * ARCSEC, **{**place, **columns})


def objects(east, north=0.0, visit=1, **columns) -> Table:
    made = new_objects(at(east, north, visit=visit, **columns), 61001.0)
    return made.replace(diaObjectId=np.arange(len(made)) + 1)


def predicted(east, north=0.0, error=0.1, trail=(0.0, 0.0)) -> Table:
    east = np.atleast_1d(east)
    values = {
        "ssObjectId": 900 + np.arange(len(east)),
        "ra": east * ARCSEC,
        "dec": np.zeros(len(east)) + np.asarray(north) * ARCSEC,
        "error": np.full(len(east), error),
        "eastTrail": np.full(len(east), trail[0]),
        "northTrail": np.full(len(east), trail[1]),
        "magnitude": np.full(len(east), 20.0),
    }
    return Table(PREDICTED, values)


def test_a_source_at_a_predicted_place_is_that_object_and_no_dia_object():
    found = associate(at([0.1, 50.0]), NOTHING, 1.0, NOW, movers=predicted([0.0]))
    assert found.kind.tolist() == [MOVING, NEW]
    assert found.ss_object_ids.tolist() == [900, 0]
    assert found.object_ids[0] == 0
    assert len(found.stored_objects) == 1


def test_the_gate_is_longer_along_the_motion():
    fast = predicted([0.0], trail=(8.0, 0.0))
    assert associate(at([4.0]), NOTHING, 1.0, NOW, movers=fast).kind.tolist() == [MOVING]
    assert associate(at([0.0], 4.0), NOTHING, 1.0, NOW, movers=fast).kind.tolist() == [NEW]


def test_the_gate_is_wider_by_the_error_of_the_prediction():
    assert associate(at([4.0]), NOTHING, 1.0, NOW, movers=predicted([0.0], error=2.0)).kind.tolist() == [MOVING]
    assert associate(at([4.0]), NOTHING, 1.0, NOW, movers=predicted([0.0], error=0.2)).kind.tolist() == [NEW]


def test_between_equally_near_a_mover_comes_before_tonights_and_tonights_before_an_old_object():
    old, tonight = objects([-0.2]), objects([-0.2], visit=7).replace(diaObjectId=[2])
    both = Table(DIAOBJECT, {n: np.append(old[n], tonight[n]) for n in old.columns})
    both = both.replace(ra=np.array([-0.2, 0.2]) * ARCSEC)
    assert associate(at([0.0]), both, 1.0, NOW, movers=predicted([0.0], 0.2)).kind.tolist() == [MOVING]
    found = associate(at([0.0]), both, 1.0, NOW)
    assert (found.kind.tolist(), found.object_ids.tolist()) == ([TONIGHT], [2])


def test_a_static_object_that_fits_clearly_better_wins_over_a_mover():
    found = associate(at([0.0]), objects([0.0]), 1.0, NOW, movers=predicted([0.6]))
    assert found.kind.tolist() == [KNOWN]
    blurred = associate(at([0.0]), objects([0.0]), 1.0, NOW, movers=predicted([0.0], error=5.0))
    assert blurred.kind.tolist() == [KNOWN]


def test_a_mover_and_a_static_object_both_seen_get_one_source_each():
    found = associate(at([0.0, 0.5]), objects([0.5]), 1.0, NOW, movers=predicted([0.0]))
    assert found.kind.tolist() == [MOVING, KNOWN]


def test_an_uncertain_prediction_in_a_crowded_field_is_not_believed():
    generator = np.random.default_rng(1)
    crowd = generator.uniform(-30, 30, (2, 1500))
    crowd = crowd[:, np.hypot(*crowd) > 2]
    movers = predicted([0.0], error=3.0)
    assert associate(at([2.0]), NOTHING, 1.0, NOW, movers=movers).kind.tolist() == [MOVING]
    assert associate(at([2.0]), objects(*crowd), 1.0, NOW, movers=movers).kind.tolist() != [MOVING]


def test_a_trail_with_nothing_near_is_moving_without_an_object():
    found = associate(at([0.0], trailLength=8.0), NOTHING, 1.0, NOW)
    assert (found.kind.tolist(), found.ss_object_ids.tolist(), found.object_ids.tolist()) == ([MOVING], [0], [0])


def test_a_trail_right_on_a_static_object_is_a_false_trail():
    trails = at([0.05, 50.6], trailLength=8.0)
    found = associate(trails, objects([0.0, 50.0]), 1.0, NOW)
    assert found.kind.tolist() == [KNOWN, MOVING]


def test_what_moves_is_nobodys_runner_up():
    found = associate(at([0.0]), objects([0.0]), 1.0, NOW, movers=predicted([0.5]))
    assert found.runner_up.tolist() == [0]
    assert found.probability[0] < 1


def test_a_star_with_proper_motion_is_expected_where_it_has_moved_to():
    star = objects([0.0]).replace(
        pmRa=[1000.0],
        pmDec=[0.0],
        pmRaErr=[10.0],
        pmDecErr=[10.0],
        nDiaSources=[5],
        firstDiaSourceMjdTai=[60000.0],
    )
    later = at([2.0], midpointMjdTai=61001.0 + 2 * 365.25)
    assert associate(later, star, 1.0, NOW).kind.tolist() == [KNOWN]
    assert associate(later, star.replace(nDiaSources=[2]), 1.0, NOW).kind.tolist() == [NEW]


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99999, -45.0), (12.0, 89.99999), (200.0, -90.0)])
def test_a_mover_is_found_at_every_place_on_the_sky(ra, dec):
    across = (ra + 180) % 360 if abs(dec) > 89 else ra + 2e-5
    source = a_sources(1, ra=across, dec=dec, raErr=0.1 * ARCSEC, decErr=0.1 * ARCSEC)
    movers = predicted([0.0]).replace(ra=[ra], dec=[dec])
    assert associate(source, NOTHING, 1.0, NOW, movers=movers).ss_object_ids.tolist() == [900]


def test_probabilities_are_what_they_say_where_half_the_sources_are_unrelated():
    generator = np.random.default_rng(4)
    known = generator.uniform(0, 400, (2, 8000))  # 0.05 a square arcsec: crowded
    true = np.arange(2000)
    seen = known[:, :2000] + generator.normal(scale=np.hypot(0.3, 0.05), size=(2, 2000))
    strangers = generator.uniform(0, 400, (2, 2000))
    sources = at(np.append(seen[0], strangers[0]), np.append(seen[1], strangers[1]), error=0.3)
    exact = objects(*known).replace(raErr=np.full(8000, 1e-9), decErr=np.full(8000, 1e-9))
    found = associate(sources, exact, 1.5, NOW)
    right = np.append(found.object_ids[:2000] == true + 1, found.kind[2000:] == NEW)
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        chosen = (found.probability >= low) & (found.probability < high)
        # some hundred in each, so 3 % by chance; strangers compete one to one, which no single source knows
        assert abs(right[chosen].mean() - found.probability[chosen].mean()) < 0.06, (low, chosen.sum())
