"""gpudiff.arrays.zone_join: every pair within a radius, anywhere on the sphere."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from gpudiff.arrays.zone_join import Zones, joined, unit_vectors, zone_join, zone_join_cuda


def oracle(ra, dec, ra_known, dec_known, radius) -> set[tuple[int, int]]:
    """Pairs by a k-d tree on unit vectors; those that are not finite lie far apart."""
    chord = 2 * np.sin(np.radians(radius / 3600) / 2)
    tree = cKDTree(np.nan_to_num(unit_vectors(ra_known, dec_known), nan=9))
    found = tree.query_ball_point(np.nan_to_num(unit_vectors(ra, dec), nan=-9), chord)
    return {(i, j) for i, row in enumerate(found) for j in row}


def cap(generator, count: int, ra: float, dec: float, spread: float):
    """Positions scattered by `spread` degrees round a direction, by adding Gaussian noise to its vector."""
    vectors = unit_vectors(np.full(count, ra), np.full(count, dec))
    vectors += generator.normal(scale=np.radians(spread), size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360, np.degrees(np.arcsin(vectors[:, 2]))


@pytest.mark.parametrize(
    ("ra", "dec"),
    [(10, 0), (0, 0), (0, -45.0), (359.99, 89.9), (120, 90), (300, -90), (180, -89.999), (0, 60)],
)
@pytest.mark.parametrize("radius", [1.0, 30.0, 3600.0])
def test_pairs_are_those_of_a_kd_tree(ra, dec, radius):
    generator = np.random.default_rng(int(ra + dec + radius) % 1000)
    spread = 10 * radius / 3600
    one, two = cap(generator, 400, ra, dec, spread), cap(generator, 500, ra, dec, spread)
    expected = oracle(*one, *two, radius)
    i, j = zone_join(*one, *two, radius)
    assert len(i) == len(expected) > 5
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected


def test_the_whole_sphere_agrees_with_a_kd_tree():
    generator = np.random.default_rng(5)
    ra, dec = generator.uniform(0, 360, (2, 3000)), np.degrees(np.arcsin(generator.uniform(-1, 1, (2, 3000))))
    expected = oracle(ra[0], dec[0], ra[1], dec[1], 7200.0)
    i, j = zone_join(ra[0], dec[0], ra[1], dec[1], 7200.0)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected


def test_right_ascension_may_be_written_with_any_number_of_turns():
    i, j = zone_join(np.array([-0.0001, 360.0001]), np.zeros(2), np.array([0.0, 720.0]), np.zeros(2), 1.0)
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_pair_at_the_pole_is_found_across_it():
    i, j = zone_join(np.array([10.0]), np.array([89.9999]), np.array([190.0]), np.array([89.9999]), 1.0)
    assert i.tolist() == j.tolist() == [0]


def test_positions_that_are_not_finite_are_in_no_pair():
    i, _ = zone_join(np.array([np.nan, 1.0]), np.array([0.0, np.nan]), np.array([1.0, np.nan]), np.zeros(2), 5.0)
    assert i.size == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_pairs_with_nothing(n, m):
    i, j = zone_join(np.zeros(n), np.zeros(n), np.zeros(m), np.zeros(m), 1.0)
    assert i.size == j.size == 0


def test_pairs_come_in_the_order_of_the_first_list():
    ra = np.array([3.0, 1.0, 2.0])
    i, j = zone_join(ra, np.zeros(3), np.array([1.0, 2.0, 3.0]), np.zeros(3), 1.0)
    assert (i.tolist(), j.tolist()) == ([0, 1, 2], [2, 0, 1])


def test_a_known_side_is_sorted_once_and_joined_often():
    two = cap(np.random.default_rng(1), 300, 0, 40, 0.1)
    known = Zones.of(*two, 30.0)
    for seed in (2, 3):
        one = cap(np.random.default_rng(seed), 200, 0, 40, 0.1)
        i, j = joined(*one, known)
        assert set(zip(i.tolist(), j.tolist(), strict=True)) == oracle(*one, *two, 30.0)


# ---------------------------------------------------------------- the CUDA body
FIELDS = {
    "plain": (10, -30, 0.05, 30.0),
    "RA 0 and the pole": (0, 89.98, 0.05, 30.0),
    "all of the sphere": (200, -90, 90.0, 7200.0),
    "hundreds of pairs each": (359.99, 0, 0.002, 30.0),
}


@pytest.mark.parametrize("name", FIELDS)
def test_cuda_body_agrees_with_the_definition_and_its_order(launcher, name):
    generator = np.random.default_rng(len(name))
    ra, dec, spread, radius = FIELDS[name]
    one, two = cap(generator, 60, ra, dec, spread), cap(generator, 300, ra, dec, spread)
    one[0][7], two[1][9], two[0][10] = np.nan, np.nan, np.nan
    one[0][0], two[0][0], two[1][0] = 0, -1e-20, one[1][0]  # the latter is at 360 degrees when its turns are taken
    known = Zones.of(*two, radius)
    expected = joined(*one, known)
    assert set(zip(*map(np.ndarray.tolist, expected), strict=True)) == oracle(*one, *two, radius)
    assert len(expected[0]) > 5
    there = known if name == "plain" else known.on(launcher)
    np.testing.assert_array_equal(zone_join_cuda(launcher, *one, there), expected)


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0), (3, 3)])
def test_cuda_body_pairs_nothing_with_nothing(launcher, n, m):
    i, j = zone_join_cuda(launcher, np.zeros(n), np.full(n, 1.0), Zones.of(np.zeros(m), np.zeros(m), 1.0))
    assert i.size == j.size == 0
