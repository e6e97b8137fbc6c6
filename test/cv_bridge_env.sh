#!/bin/sh
# Make an environment with the real C++ cv_bridge of Debian or Ubuntu beside the ROS wheels, for
# test_cv_bridge_parity.py. Nothing is installed and root is not needed: packages are downloaded
# and unpacked below one folder. A second call finds it made and returns at once.
#
#   test/cv_bridge_env.sh DIR
#   DIR/python -m pytest -c /dev/null --noconftest test/test_cv_bridge_parity.py
#
# PIP_ROS_PACKAGE (default ros-kilted-sensor-msgs) chooses the wheel that brings the messages.
set -eu
. "$(dirname "$0")/env.sh"

[ $# -eq 1 ] || fail "expected one argument, the folder to make, such as .cache/cv_bridge"
# numpy and OpenCV as this cv_bridge can bear: it was compiled for numpy 1 and uses tostring().
wheels="numpy==1.26.4 opencv-python-headless==4.11.0.86 pytest \
${PIP_ROS_PACKAGE:-ros-kilted-sensor-msgs}"
recipe="1 $wheels"
begin "$1" root

# What the libraries need and this machine lacks, as apt works it out.
libraries=$("$(dirname "$0")/unpack_debs.sh" "$dir/root" python3-cv-bridge) \
    || fail "no cv_bridge here (see above); the parity test runs as well wherever" \
        "ros-\$ROS_DISTRO-cv-bridge is installed"

boost=$(echo "$dir"/root/usr/lib/python3/dist-packages/cv_bridge/boost/cv_bridge_boost.*.so)
tag=${boost##*/cv_bridge_boost.cpython-}        # 311-x86_64-linux-gnu.so
python="python3.$(echo "$tag" | sed 's/^3\([0-9]*\)-.*/\1/')"
command -v "$python" >/dev/null || fail "no $python here; this distribution's cv_bridge is for it"
"$python" -m venv --clear "$dir/venv" || fail "$python -m venv failed; install $python-venv"
# shellcheck disable=SC2086 # a list of names
"$dir/venv/bin/python" -m pip install -qq --disable-pip-version-check $wheels \
    || fail "pip could not install $wheels"
ln -s "$dir/root/usr/lib/python3/dist-packages/cv_bridge" \
    "$("$dir/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/"

runner "$dir/venv/bin/python" "LD_LIBRARY_PATH=$libraries"
"$dir/python" -c 'import cv_bridge.boost.cv_bridge_boost as b; b.getCvType("rgb8")' \
    || fail "cv_bridge was unpacked but cannot be imported (see above)"
finish
