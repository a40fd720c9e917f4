"""Normal equations of the spatially varying kernel."""

import numpy as np
import pytest

from gpudiff.arrays import normal
from gpudiff.arrays.polynomial import terms


def problem(stamps=30, functions=4, pixels=49, noise=0.0, seed=1):
    """Stamps of a known field: M functions x 3 kernel terms and a 3-term background."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1, 1, (2, stamps))
    design = rng.normal(size=(stamps, functions + 1, pixels)).astype(np.float32)
    design[:, -1] = 1
    kernel, background = terms(u, v, 1), terms(u, v, 1)
    truth = rng.normal(size=functions * 3 + 3)
    local = normal.local(truth, kernel, background)
    target = np.einsum("nf,nfp->np", local, design) + rng.normal(0, noise, (stamps, pixels))
    weights = rng.uniform(0.5, 2, (stamps, pixels)).astype(np.float32)
    return design, target.astype(np.float32), weights, kernel, background, truth


def test_grams_are_the_weighted_sums_of_each_stamp():
    design, target, weights, *_ = problem()
    squares = normal.unpacked(normal.grams(design, target, weights, threads=2))
    for n in (0, 17):
        a, w = design[n].astype(float), weights[n].astype(float)
        gram, right, power = squares[n, :-1, :-1], squares[n, :-1, -1], squares[n, -1, -1]
        # Float64 throughout: a condition of 3e10 forgives no float32 sum.
        np.testing.assert_allclose(gram, (a * w) @ a.T, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(right, (a * w) @ target[n].astype(float), rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(power, (w * target[n].astype(float) ** 2).sum(), rtol=1e-12)


def test_the_assembled_system_is_that_of_the_whole_design_matrix():
    design, target, weights, kernel, background, _ = problem(stamps=8)
    rows = []
    for n in range(len(design)):
        parts = [np.outer(kernel[n], f) for f in design[n, :-1]] + [np.outer(background[n], design[n, -1])]
        rows.append(np.concatenate(parts).T)
    full, w = np.concatenate(rows), weights.ravel().astype(float)
    equations = normal.grams(design, target, weights)
    matrix, vector = normal.assemble(equations, kernel, background)
    np.testing.assert_allclose(matrix, (full.T * w) @ full, rtol=1e-4, atol=1e-3)  # float32 products
    np.testing.assert_allclose(vector, (full.T * w) @ target.ravel(), rtol=1e-4, atol=1e-2)


def test_a_noiseless_field_is_recovered():
    design, target, weights, kernel, background, truth = problem()
    equations = normal.grams(design, target, weights)
    solution = normal.solve(*normal.assemble(equations, kernel, background))
    np.testing.assert_allclose(solution, truth, atol=1e-4)  # float32 data


def test_a_noisy_fields_errors_are_those_of_the_inverse_matrix():
    pulls = []
    for seed in range(20):
        design, target, _, kernel, background, truth = problem(noise=0.5, seed=seed)
        weights = np.full(target.shape, 4, np.float32)
        equations = normal.grams(design, target, weights)
        matrix, vector = normal.assemble(equations, kernel, background)
        pulls.append((normal.solve(matrix, vector) - truth) / np.sqrt(np.diag(np.linalg.inv(matrix))))
    # 300 pulls: the scatter is 1 to 4 %, four sigma is 16 %.
    assert 0.84 < np.std(pulls) < 1.16


def test_an_unconstrained_function_does_not_break_the_solution():
    design, target, weights, kernel, background, _ = problem()
    design[:, 1] = design[:, 0]
    equations = normal.grams(design, target, weights)
    assert np.isfinite(normal.solve(*normal.assemble(equations, kernel, background))).all()


@pytest.mark.parametrize("folds", [5, 10])
def test_held_back_chi2_is_that_of_a_fit_without_the_fold(folds):
    design, target, weights, kernel, background, _ = problem(noise=0.5)
    equations = normal.grams(design, target, weights)
    used = np.ones(len(design), bool)
    used[3] = False
    found = normal.held_back(equations, kernel, background, used, np.arange(30) % folds)[0]
    for n in (3, 11):
        rest = used & (np.arange(len(design)) % folds != n % folds)
        solution = normal.solve(*normal.assemble(equations, kernel, background, rest))
        model = normal.local(solution, kernel[n : n + 1], background[n : n + 1]) @ design[n]
        expected = (weights[n] * (target[n] - model[0]) ** 2).sum()
        np.testing.assert_allclose(found[n], expected, rtol=1e-2)  # a difference of large float32 sums


def test_held_back_chi2_exceeds_that_of_the_fit_itself():
    design, target, _, kernel, background, _ = problem(stamps=12, noise=0.5)
    weights = np.full(target.shape, 4, np.float32)
    equations = normal.grams(design, target, weights)
    used = np.ones(12, bool)
    solution = normal.solve(*normal.assemble(equations, kernel, background))
    model = np.einsum("nf,nfp->np", normal.local(solution, kernel, background), design)
    own = (weights * (target - model) ** 2).sum()
    assert normal.held_back(equations, kernel, background, used, np.arange(12) % 6).sum() > own


def test_a_fold_of_unused_stamps_is_under_the_fit_to_all_others():
    design, target, weights, kernel, background, _ = problem(noise=0.5)
    equations, fold = normal.grams(design, target, weights), np.arange(30) // 6
    used = fold != 2
    found = normal.held_back(equations, kernel, background, used, fold)[0]
    solution = normal.solve(*normal.assemble(equations, kernel, background, used))
    model = np.einsum("nf,nfp->np", normal.local(solution, kernel, background), design)
    expected = (weights * (target - model) ** 2).sum(1)
    np.testing.assert_allclose(found[~used], expected[~used], rtol=1e-4)  # float32 stamps


def test_what_is_left_without_a_star_that_outshines_all_is_solved():
    """Its rounding was left in it: the matrix was indefinite where the other stars lie on a line."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        u = rng.uniform(-1, 1, 12)
        design = np.repeat(rng.normal(size=(1, 5, 225)), 12, 0) * rng.uniform(1, 10, (12, 1, 1))
        design[0] *= 1e5
        design[:, -1] = 1
        kernel, background = terms(u, 0.37 * u + 0.3, 1), terms(u, u, 0)
        target = design[:, :-1].sum(1)
        equations = normal.grams(design.astype(np.float32), target, np.ones(target.shape, np.float32))
        penalty = np.concatenate([np.zeros(3), np.full(9, 1e-6), [0]])
        fold, used = np.arange(12) % 10, np.ones(12, bool)
        found = normal.held_back(equations, kernel, background, used, fold, (penalty,))[0]
        assert np.isfinite(found).all()
        assert found[10] < 1e-6 * equations[10, -1]  # left out with that star: the functions make the target


def test_a_strong_penalty_holds_the_solution_at_zero():
    design, target, weights, kernel, background, _ = problem()
    equations = normal.grams(design, target, weights)
    used, fold = np.ones(30, bool), np.arange(30) % 5
    free, held = normal.held_back(equations, kernel, background, used, fold, (None, 1e9 * np.eye(15)))
    np.testing.assert_allclose(held, equations[:, -1], rtol=1e-3)  # nothing is subtracted
    assert free.sum() < 0.01 * held.sum()


@pytest.fixture
def turning():
    """(turn, what `problem` makes with noise of 0.5, the same with its functions turned)."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    design, *others = problem(noise=0.5)
    whole = design.copy()
    whole[:, :-1] = np.einsum("mf,nfp->nmp", turn, design[:, :-1])
    return turn, (design, *others), (whole, *others)


def test_turned_equations_are_those_of_the_turned_functions(turning):
    turn, *problems = turning
    (matrix, vector), (wanted, of_turned) = (
        normal.assemble(normal.grams(design, target, weights), kernel, background)
        for design, target, weights, kernel, background, _ in problems
    )
    # Float32 stamps.
    np.testing.assert_allclose(normal.turned_both(matrix, turn, 3), wanted, atol=1e-5 * wanted.max())
    np.testing.assert_allclose(normal.turned(vector, turn, 3), of_turned, atol=1e-5 * np.abs(of_turned).max())
    back = normal.turned(normal.solve(wanted, of_turned), turn.T, 3)
    np.testing.assert_allclose(back, normal.solve(matrix, vector), atol=1e-4)


def test_a_penalty_on_turned_functions_may_be_as_large_as_it_likes(turning):
    turn, *problems = turning
    penalty, fold = np.repeat([1.0, 1e20, 1e12, 0.0, 0.0], 3), np.arange(30) % 5  # of noise alone they grow so
    here, there = (
        normal.held_back(
            normal.grams(design, target, weights), kernel, background, fold < 5, fold, (penalty,), turned
        )
        for (design, target, weights, kernel, background, _), turned in zip(problems, (turn, None), strict=True)
    )
    np.testing.assert_allclose(here, there, rtol=1e-4)  # float32 stamps


def fitted_groups(rounds=10):
    """(truth, free, likeliest, penalty) of groups of 40 unknowns whose mean squares are 0 and 9; noise 1."""
    rng = np.random.default_rng(4)
    truth = np.where(np.arange(81) < 40, 0, 3 * rng.normal(size=81))
    design = rng.normal(size=(400, 81)) / 20
    matrix, vector = design.T @ design, design.T @ (design @ truth + rng.normal(size=400))
    groups = np.repeat([0, 1, -1], [40, 40, 1])
    penalty = normal.likeliest(matrix, vector, groups, np.where(groups < 0, 0, 1.0), rounds)
    return truth, normal.solve(matrix, vector), normal.solve(matrix, vector, penalty), penalty


def test_the_least_ratio_is_that_of_noise_where_a_function_sees_nothing_else():
    rng = np.random.default_rng(5)
    functions = rng.normal(size=(6, 40))
    functions = np.vstack([functions, functions[:1]])  # one twice: what tells them apart is nothing
    noise = functions @ functions.T
    seen = np.linalg.qr(functions[:5].T)[0]  # of what is orthogonal to these the sixth sees noise alone
    signal = (functions @ seen) @ (functions @ seen).T
    assert normal.least_ratio(3 * noise + signal, noise) == pytest.approx(3)
    assert normal.least_ratio(3 * noise + functions @ functions.T, noise) == pytest.approx(4)


def test_the_likeliest_penalty_is_one_over_the_mean_square_of_a_group():
    truth, _, _, penalty = fitted_groups()
    # 40 unknowns of variance 9, each known to about 1.1.
    assert penalty[40] == pytest.approx(1 / (truth[40:80] ** 2).mean(), rel=0.2)


def test_a_group_that_is_noise_is_held_at_zero():
    truth, free, held, _ = fitted_groups()
    # Free, the 40 are noise of 1.1; what is left is by how much their own mean square happens to exceed it.
    assert (held[:40] ** 2).mean() < 0.1 * (free[:40] ** 2).mean()
    assert ((held - truth) ** 2).mean() < 0.6 * ((free - truth) ** 2).mean()


def test_an_unknown_of_no_group_is_not_penalised():
    *_, penalty = fitted_groups()
    assert penalty[80] == 0


@pytest.mark.parametrize(("stamps", "functions", "pixels"), [(9, 37, 100), (1, 4, 49), (3, 21, 961)])
def test_cuda_bodies_agree_with_the_definition(launcher, stamps, functions, pixels):
    design, target, weights, *_ = problem(stamps=stamps, functions=functions, pixels=pixels)
    weights[:, ::7] = 0
    there = launcher.upload(design, np.float32)
    found = normal.grams_cuda(launcher, there, target, weights)
    expected = normal.grams(design, target, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-10)  # double sums in another order
    coefficients = np.random.default_rng(3).normal(size=(stamps, functions)).astype(np.float32)
    model = normal.models_cuda(launcher, there, coefficients)
    # float32 sums of as many products of order 1.
    np.testing.assert_allclose(model, normal.models(design, coefficients), atol=2e-5)
