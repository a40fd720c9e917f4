"""gpudiff.arrays.kernel_files: where the sources of kernels are."""

import pytest

from gpudiff.arrays.kernel_files import kernel_source
from gpudiff.model.errors import DeviceFailed


def test_an_unknown_kernel_is_refused():
    with pytest.raises(DeviceFailed, match=r"kernel nonesuch: expected its source in .*nonesuch\.cu"):
        kernel_source("nonesuch")


@pytest.mark.parametrize("stem", ["cutouts", "subtract_tiles"])
def test_every_operation_has_its_kernel(stem):
    assert f"{stem}(const float*" in kernel_source(stem).replace("\n", "")
