#!/bin/sh
# What must hold before a release, but for the tests: the sdist has every tracked file, sdist and
# wheel can be built, read and installed where nothing but a robot's packages is, and colcon builds
# and tests the sdist.
#
#   test/release_check.sh DIR TOOLS BARE
#
# DIR is a folder for what is made; TOOLS is the bin/ of an environment with the extra `release`;
# BARE is a folder of bare_env.sh.
set -eu
. "$(dirname "$0")/env.sh"

[ $# -eq 3 ] || fail "expected a folder, the bin folder of the tools, and a folder of bare_env.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
tools=$(cd "$2" && pwd)
bare=$(cd "$3" && pwd)
rm -rf "$dir/dist" "$dir/installed" "$dir/workspace"
unset PYTHONPATH

step() {
    echo "--- $*"
}

step 'every tracked file is in the sdist (check-manifest)'
(cd "$root" && "$tools/check-manifest")

step 'sdist, and a wheel made of it (build, twine)'
"$tools/python" -m build -o "$dir/dist" "$root" >"$dir/build.log" 2>&1 \
    || { tail -20 "$dir/build.log" >&2; fail "cannot be built"; }
"$tools/twine" check --strict "$dir"/dist/*
(cd "$dir/dist" && du -h -- *)

step 'the keys of package.xml (rosdep)'
if "$tools/rosdep" update -q >"$dir/rosdep.log" 2>&1; then
    "$tools/rosdep" keys --from-paths "$root" --ignore-src | xargs -n 1 "$tools/rosdep" resolve --os=ubuntu:noble
else
    echo 'the index of rosdep cannot be reached: keys are only looked up in the packages of apt'
    for key in $(sed -n 's/.*<[a-z]*_depend>\(python3-.*\)<.*/\1/p' "$root/package.xml"); do
        apt-cache show "$key" >/dev/null 2>&1 || fail "apt knows no package $key"
    done
fi

step 'the wheel beside the packages of the distribution alone'
"$tools/pip" --python "$bare/venv/bin/python" install -q --no-deps --no-index \
    --prefix "$dir/installed" "$dir"/dist/*.whl
modules=$(echo "$dir"/installed/lib/python3.*/site-packages)
export ROS_DOMAIN_ID=88 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
node() {
    (cd "$dir" && PYTHONPATH=$modules timeout -s INT "$1" "$bare/python" \
        "$dir/installed/lib/grasp_success_detector/detector_node" 2>&1) || true
}
node 20 >"$dir/node.log"
grep -q 'opencv fp32 on cpu' "$dir/node.log" && grep -q 'active: frames from' "$dir/node.log" \
    || { cat "$dir/node.log" >&2; fail "the installed node does not become active"; }
grep 'configured' "$dir/node.log"

step 'the sdist as a package in a workspace, beside the same packages (colcon build, colcon test)'
"$tools/pip" install -q --disable-pip-version-check --target "$dir/colcon" --upgrade \
    -c "$root/constraints.txt" colcon-common-extensions pytest 'setuptools<80'
colcon() {
    PYTHONPATH=$dir/colcon "$bare/python" "$dir/colcon/bin/colcon" "$@"
}
mkdir -p "$dir/workspace/src"
tar -xf "$dir"/dist/*.tar.gz -C "$dir/workspace/src"
cd "$dir/workspace"
colcon build --event-handlers console_cohesion-
colcon test --return-code-on-test-failure --event-handlers console_cohesion- \
    --pytest-args -q -m 'not dds and not slow' \
    || { colcon test-result --verbose >&2; fail "colcon test failed"; }
colcon test-result
