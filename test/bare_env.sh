#!/bin/sh
# Make what a robot has: NumPy, OpenCV and PyYAML as this Debian or Ubuntu packages them, and ROS 2
# (as wheels), nothing else; for test_bare_machine.py. Nothing is installed and root is not needed.
# A second call finds it made and returns at once.
#
#   test/bare_env.sh DIR
#   BARE_PYTHON=DIR/python python3 -m pytest test/test_bare_machine.py
set -eu
. "$(dirname "$0")/env.sh"

[ $# -eq 1 ] || fail "expected one argument, the folder to make, such as .cache/bare"
packages="python3-numpy python3-opencv python3-yaml"
wheels="ros-kilted-common-interfaces ros-kilted-lifecycle-msgs ros-kilted-rclpy \
ros-kilted-rmw-fastrtps-cpp"
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt
recipe="1 $packages $wheels $(grep '^ros-kilted' "$constraints" | cksum)"
begin "$1" root

# shellcheck disable=SC2086 # lists of names
libraries=$("$(dirname "$0")/unpack_debs.sh" "$dir/root" $packages) || exit 1
modules=$dir/root/usr/lib/python3/dist-packages
opencv=$(echo "$modules"/cv2.cpython-3*.so)
[ -f "$opencv" ] || fail "python3-opencv brought no module for one Python: $opencv"
python="python3.$(echo "${opencv##*/cv2.cpython-3}" | sed 's/-.*//')"
# The distribution's own, whatever else comes first on the path.
[ -x "/usr/bin/$python" ] || fail "no /usr/bin/$python here: sudo apt install $python"
"/usr/bin/$python" -m venv --clear "$dir/venv" \
    || fail "$python -m venv failed: sudo apt install $python-venv"
# shellcheck disable=SC2086
"$dir/venv/bin/python" -m pip install -qq --disable-pip-version-check -c "$constraints" $wheels \
    || fail "pip could not install $wheels"
# What the wheels of ROS asked pip for, the distribution has.
"$dir/venv/bin/python" -m pip uninstall -qq --yes numpy pyyaml setuptools pip
echo "$modules" >"$("$dir/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/debian.pth"

runner "$dir/venv/bin/python" "LD_LIBRARY_PATH=$libraries"
"$dir/python" -c 'import cv2, numpy, rclpy, yaml' \
    || fail "the packages were unpacked but cannot be imported (see above)"
finish
