"""gpudiff.science.associate: known or new, by likelihood, one to one."""

import itertools

import numpy as np
import pytest
from batches import a_sources

from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.associate import assign, associate, looks
from gpudiff.science.objects import new_objects

NOW = 61010.0
ARCSEC = 1 / 3600


def at(east, north, **columns) -> Table:
    """Sources some arcsec from (0, 0), with errors of 0.1 arcsec unless told otherwise."""
    errors = {"raErr": 0.1 * ARCSEC, "decErr": 0.1 * ARCSEC}
    positions = {"ra": np.array(east) * ARCSEC, "dec": np.array(north) * ARCSEC}
    return a_sources(len(east), **{**positions, **errors, **columns})


def known_at(east, north, **columns) -> Table:
    """Objects some arcsec from (0, 0), ids 1, 2, 3 ..."""
    return new_objects(at(east, north, visit=1, **columns), 61001.0).replace(diaObjectId=np.arange(len(east)) + 1)


NOTHING = Table.empty(DIAOBJECT)


def test_a_source_on_a_known_object_joins_it():
    found = associate(at([0.1], [0.1]), known_at([0.0], [0.0]), 1.0, NOW)
    assert found.known.tolist() == [True]
    assert found.object_ids.tolist() == [1]
    assert found.objects["nDiaSources"].tolist() == [2]
    assert found.probability[0] > 0.99


def test_a_source_with_nothing_near_is_new_under_its_own_id():
    sources = at([0.0, 5.0], [0.0, 0.0])
    found = associate(sources, NOTHING, 1.0, NOW)
    assert not found.known.any()
    assert found.object_ids.tolist() == sources["diaSourceId"].tolist()
    assert found.probability.tolist() == [1.0, 1.0]


def test_beyond_the_gate_a_source_is_new_however_large_its_error():
    large = {"raErr": 2 * ARCSEC, "decErr": 2 * ARCSEC}
    found = associate(at([1.01, 0.99], [0.0, 50.0], **large), known_at([0.0, 0.0], [0.0, 50.0]), 1.0, NOW)
    assert found.known.tolist() == [False, True]


def test_two_sources_never_share_an_object():
    found = associate(at([-0.1, 0.12], [0.0, 0.0]), known_at([0.0], [0.0]), 1.0, NOW)
    assert found.known.tolist() == [True, False]
    assert len(set(found.object_ids.tolist())) == 2


def test_frames_are_one_look_until_two_of_their_detections_may_be_one():
    far, near, empty = at([100.0], [0.0]), at([0.0, 101.5], [0.0, 0.0]), at([], [])
    assert list(looks([at([0.0], [50.0]), empty, far], 1.0)) == [slice(0, 3)]
    assert list(looks([far, empty, near, at([50.0], [0.0])], 1.0)) == [slice(0, 2), slice(2, 4)]
    assert list(looks([far, near, near], 1.0)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert list(looks([near, near], 0.5)) == [slice(0, 1), slice(1, 2)]
    assert list(looks([far, near], 0.7)) == [slice(0, 2)]


def test_the_least_total_cost_wins_over_the_nearest_neighbour():
    # the middle source is nearest to the right object, but then the right source would have none
    found = associate(at([0.28, 0.6], [0.0, 0.0]), known_at([0.0, 0.5], [0.0, 0.0]), 1.0, NOW)
    assert found.object_ids.tolist() == [1, 2]
    near = associate(at([0.28], [0.0]), known_at([0.0, 0.5], [0.0, 0.0]), 1.0, NOW)
    assert near.object_ids.tolist() == [2]
    assert near.runner_up.tolist() == [1]
    assert 0.5 < near.probability[0] < 0.9


def test_the_covariance_decides_between_two_equally_near_objects():
    # elongated along the diagonal east-north: 0.4 arcsec off along it is likely, across it is not
    long = {"raErr": 0.3 * ARCSEC, "decErr": 0.3 * ARCSEC, "ra_dec_Cov": 0.08 * ARCSEC**2}
    found = associate(at([0.0], [0.0], **long), known_at([0.3, 0.3], [-0.3, 0.3]), 1.0, NOW)
    assert found.object_ids.tolist() == [2]


def test_a_crowded_field_may_say_new():
    generator = np.random.default_rng(3)
    crowd = generator.uniform(-30, 30, (2, 3000))
    crowd = crowd[:, np.hypot(*crowd) > 1.0]
    sparse, crowded = known_at([0.5], [0.0]), known_at([0.5, *crowd[0]], [0.0, *crowd[1]])
    assert associate(at([0.0], [0.0]), sparse, 1.0, NOW).known.tolist() == [True]
    assert associate(at([0.0], [0.0]), crowded, 1.0, NOW).known.tolist() == [False]


def test_a_source_without_a_sky_position_is_new():
    found = associate(at([np.nan, 0.0], [np.nan, 0.0]), known_at([0.0], [0.0]), 1.0, NOW)
    assert found.known.tolist() == [False, True]
    assert np.isnan(found.objects["ra"][0])


def test_a_flagged_source_associates_as_any():
    found = associate(at([0.0], [0.0], flags=1, flagged=True), known_at([0.0], [0.0]), 1.0, NOW)
    assert found.known.tolist() == [True]


def test_no_sources_give_no_associations():
    found = associate(a_sources(0), known_at([0.0], [0.0]), 1.0, NOW)
    assert len(found.objects) == len(found.known) == len(found.runner_up) == 0


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99999, -45.0), (12.0, 89.99999), (200.0, -90.0)])
def test_every_place_on_the_sky_is_alike(ra, dec):
    error = {"raErr": 0.1 * ARCSEC, "decErr": 0.1 * ARCSEC}
    first = a_sources(1, visit=1, ra=ra, dec=dec, **error)
    across = a_sources(1, ra=(ra + 180) % 360 if abs(dec) > 89 else ra + 2e-5, dec=dec, **error)
    found = associate(across, new_objects(first, NOW), 1.0, NOW)
    assert found.object_ids.tolist() == first["diaSourceId"].tolist()


def test_the_assignment_is_the_best_of_all():
    generator = np.random.default_rng(11)
    for _ in range(30):
        n, m = generator.integers(1, 5, 2)
        pairs = np.array([p for p in itertools.product(range(n), range(m)) if generator.random() < 0.6])
        i, j = pairs.reshape(-1, 2).T.astype(int)
        cost, price = generator.normal(size=i.size), generator.normal(0.5, 1.0, size=n)
        table = {(a, b): c for a, b, c in zip(i.tolist(), j.tolist(), cost, strict=True)}

        def total(choice, table=table, price=price):
            used = [b for b in choice if b >= 0]
            if len(set(used)) < len(used):
                return np.inf
            return sum(price[a] if b < 0 else table.get((a, b), np.inf) for a, b in enumerate(choice))

        best = min(map(total, itertools.product(range(-1, m), repeat=n)))
        assert total(assign(i, j, cost, price).tolist()) == pytest.approx(best)


def test_few_are_wrong_where_a_tenth_have_a_close_neighbour():
    generator = np.random.default_rng(8)
    xy = generator.uniform(0, 2000, (2, 3000))
    xy[:, :300] = xy[:, 300:600] + generator.normal(scale=1.0, size=(2, 300))
    seen = xy + generator.normal(scale=0.1, size=xy.shape)
    found = associate(at(*seen), known_at(*xy), 1.0, NOW)
    # sigma is 0.15 arcsec with the object's; a few pairs in 300 lie so close that nobody could tell
    assert np.mean(found.object_ids != np.arange(3000) + 1) < 0.01
