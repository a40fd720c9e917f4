"""Raw counts to electrons."""

import numpy as np
import pytest

from gpudiff.arrays.decode import Channel, Marks, Signature, decode, decode_cuda

MARKS = Marks(saturated=2, bad=1, missing=256)


def signature(seed=1, planes=True, shape=(37, 50)):
    """Two channels side by side with an overscan between them, the right one read from the other side's rows."""
    rng = np.random.default_rng(seed)
    height, width = shape
    half = width // 2
    left = Channel((3, 3 + half, 2, 2 + height), (0, 0), 1000.5, 1.6, 5.5, 60000.0, (1.0, 2e-7))
    right = Channel(
        (half + 9, 9 + width, 2, 2 + height), (half, 0), 990.0, 1.7, 6.1, 58000.0, (1.001, -1e-7, 1e-13)
    )
    if not planes:
        return Signature(shape, (left, right))
    flat = rng.normal(1, 0.02, shape).astype(np.float32)
    flat[5, 6], flat[7, 8] = 0.01, np.nan
    return Signature(
        shape, (left, right), rng.normal(3, 1, shape).astype(np.float32), flat, rng.random(shape) < 0.01
    )


def counts(seed=2, shape=(41, 62), kind=np.uint16):
    rng = np.random.default_rng(seed)
    raw = rng.poisson(1500, shape).astype(kind)
    raw[10:12, 20:23] = 65000
    raw[4] = 900  # below the level
    if kind is np.float32:
        raw[20, 10], raw[21, 40] = np.nan, np.inf
    return raw


def test_a_pixel_is_its_counts_above_level_and_bias_times_the_gain_over_the_flat():
    raw = np.full((41, 62), 2000, np.uint16)
    made = signature()
    image, variance, mask = decode(raw, None, made, MARKS)
    s = 2000 - 1000.5 - float(made.bias[20, 3])
    electrons = 1.6 * (s + 2e-7 * s**2)
    flat = float(made.flat[20, 3])
    assert image[20, 3] == pytest.approx(electrons / flat, rel=1e-6)  # float32
    noise = 5.5 * (1 + 4e-7 * s)
    assert variance[20, 3] == pytest.approx((electrons + noise**2) / flat**2, rel=1e-6)
    assert mask[20, 3] == 0


def test_what_no_channel_reads_has_no_value():
    made = signature(planes=False)
    image, variance, mask = decode(counts(), None, Signature(made.shape, made.channels[:1]), MARKS)
    assert (image[:, 25:] == 0).all()
    assert (variance[:, 25:] == 1).all()
    assert (mask[:, 25:] == MARKS.missing).all()


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize(("batch", "planes", "masked"), [(1, True, True), (9, True, False), (2, False, True)])
def test_cuda_body_agrees_with_the_definition(launcher, kind, batch, planes, masked):
    signatures = [signature(n, planes) for n in range(batch)]
    raw = np.stack([counts(n, kind=kind) for n in range(batch)])
    masks = np.random.default_rng(5).integers(0, 2, raw.shape).astype(np.int32) * 8 if masked else None
    made = [launcher.download(one) for one in decode_cuda(launcher, raw, masks, signatures, MARKS)]
    for n in range(batch):
        image, variance, mask = decode(raw[n], None if masks is None else masks[n], signatures[n], MARKS)
        np.testing.assert_array_equal(made[2][n], mask)
        np.testing.assert_array_equal(made[0][n], image)
        np.testing.assert_array_equal(made[1][n], variance)
        for mark in (MARKS.saturated, *((MARKS.bad,) if planes else ())):
            assert (mask & mark).any()
    assert (kind is np.float32) == bool((made[2] & MARKS.missing).any())
