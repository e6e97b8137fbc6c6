#!/bin/sh
# Run the fast tests and the demo on several Pythons, each with its own pip in an environment of its
# own without torch, as a robot's; tests that need torch are skipped.
#
#   test/pythons.sh DIR 3.10 3.13
#
# A Python is looked for on the path, and among those of pyenv; one that is not here is left out.
set -eu
. "$(dirname "$0")/env.sh"

[ $# -gt 1 ] || fail "expected the folder for the environments and versions, such as 3.10 3.13"
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

find_python() {
    for found in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        # A shim of pyenv is on the path also where its version is not chosen.
        if "$found" -c 'import ensurepip' 2>/dev/null; then
            echo "$found"
            return
        fi
    done
}

# timed WHAT COMMAND...: run it, and say how long it took; a failure is kept for the end.
timed() {
    what=$1
    shift
    began=$(date +%s)
    outcome=took
    "$@" || {
        outcome='failed after'
        failed="${failed:+$failed, }$what on $version"
    }
    echo "Python $version: $what $outcome $(($(date +%s) - began)) s"
}

run='' failed='' all_began=$(date +%s)
cd "$root"
# No other detector on this machine may take part in the demo.
export ROS_DOMAIN_ID="${ROS_DOMAIN_ID:-$((1 + $$ % 100))}" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
for version; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "Python $version: not here"
        continue
    fi
    run="$run $version"
    venv=$dir/$version
    "$python" -m venv --clear "$venv" || fail "Python $version: no venv"
    echo "Python $version: $("$venv/bin/python" --version), $("$venv/bin/pip" --version | cut -d ' ' -f 1-2)"
    timed 'set-up' "$venv/bin/pip" install -q --disable-pip-version-check -c constraints.txt \
        -e '.[bags,label,ros-wheels]' hypothesis mcap pytest pytest-xdist
    timed 'demo' "$venv/bin/grasp_demo" --output "$venv/demo.png"
    timed 'fast tests' "$venv/bin/python" -m pytest -q -n 2 --dist loadfile -p no:cacheprovider \
        -m 'not dds and not slow'
done
[ -z "$failed" ] || fail "failed: $failed"
if [ -n "$run" ]; then
    echo "passed on$run in $(($(date +%s) - all_began)) s"
else
    echo 'none of these Pythons is here: nothing was tested'
fi
