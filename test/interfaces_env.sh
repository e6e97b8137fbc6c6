#!/bin/sh
# Make a place where vision_msgs and tf2_msgs can be imported beside the ROS wheels, for
# test_stamped.py and test_node_tf.py: the messages that the detector uses are generated and compiled
# from test/interfaces. Nothing is installed and root is not needed. A second call finds it made and
# returns at once.
#
#   test/interfaces_env.sh DIR [PYTHON]
#   DIR/python -m pytest test/test_stamped.py test/test_node_tf.py
#
# PYTHON (default python3) is an interpreter with ros-kilted-rclpy; DIR/python is the same one.
set -eu
. "$(dirname "$0")/env.sh"

[ $# -eq 1 ] || [ $# -eq 2 ] || fail "expected the folder to make, such as .cache/vision_msgs," \
    "and perhaps an interpreter"
python=$(command -v "${2:-python3}") || fail "no $2 here"
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
source=$(cd "$(dirname "$0")" && pwd)/interfaces
wheels="catkin_pkg==1.1.1 cmake==3.31.10 ros-kilted-ament-cmake==2.7.3 \
ros-kilted-ament-cmake-include-directories==2.7.3 ros-kilted-ament-cmake-ros-core==0.14.5 \
ros-kilted-ament-package==0.17.2 ros-kilted-rosidl-core-generators==0.3.1 \
ros-kilted-rosidl-default-generators==1.7.1 ros-kilted-common-interfaces==5.5.1"
constraints=$source/../../constraints.txt
recipe="2 $python $wheels $(cat "$source"/*/msg/*.msg "$source"/*/CMakeLists.txt "$constraints" | cksum)"
begin "$1" venv build install

command -v c++ >/dev/null && command -v make >/dev/null \
    || fail "no compiler here: sudo apt install g++ make"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$header/Python.h" ] || fail "no $header/Python.h: sudo apt install python3-dev"
"$python" -m venv "$dir/venv" || fail "$python -m venv failed: sudo apt install python3-venv"
# shellcheck disable=SC2086 # a list of names
"$dir/venv/bin/python" -m pip install -qq --disable-pip-version-check \
    -c "$constraints" $wheels || fail "pip could not install $wheels"

# The wheels' cmake files name the folders of the machine that they were built on.
numpy=$("$dir/venv/bin/python" -c 'import numpy; print(numpy.get_include())')
sed -i -E -e "s#/opt/python/[^;\"]*/numpy/_core/include#$numpy#g" \
    -e "s#/opt/python/[^;\"]*/include/python[0-9.]+#$header#g" \
    "$dir"/venv/share/*/cmake/*rosidl_generator_pyExport.cmake

export PATH="$dir/venv/bin:$PATH" AMENT_PREFIX_PATH="$dir/venv" LD_LIBRARY_PATH="$dir/venv/lib"
for package in vision_msgs tf2_msgs; do
    (cmake -S "$source/$package" -B "$dir/build/$package" -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_PREFIX_PATH="$dir/venv" -DCMAKE_INSTALL_PREFIX="$dir/install" \
        -DPython3_EXECUTABLE="$dir/venv/bin/python" \
        && cmake --build "$dir/build/$package" -j 2 \
        && cmake --install "$dir/build/$package") >"$dir/log" 2>&1 \
        || { tail -20 "$dir/log" >&2; fail "$package could not be built; $dir/log has it all"; }
done
rm -rf "$dir/build" "$dir/venv"

modules=$(echo "$dir"/install/lib/python3.*/site-packages)
runner "$python" "PYTHONPATH=$modules" "LD_LIBRARY_PATH=$dir/install/lib"
"$dir/python" -c '
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Classification
for message in TFMessage, Classification:
    message.__class__.__import_type_support__()' \
    || fail "the messages were built but cannot be imported (see above); has $python" \
        "ros-kilted-rclpy?"
finish
