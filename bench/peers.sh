#!/bin/sh
# The peers that a registry has, in an environment of their own: build/peers.  ois builds with the NumPy that is
# there; ProperImage names a package (tinynpydb) that no registry has, so its other needs are named here.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv build/peers
pip="build/peers/bin/pip install --quiet --disable-pip-version-check"
$pip sfft==1.7.3 setuptools wheel
$pip --no-build-isolation ois==0.2
$pip stdpipe==0.4.1
$pip sep astroalign scikit-image attrs astroscrappy joblib matplotlib
$pip --no-deps properimage==0.7.2
