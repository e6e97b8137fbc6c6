#!/bin/sh
# Make what an ARM64 robot has: Python, NumPy, OpenCV and PyYAML as this Debian or Ubuntu packages
# them for arm64, run by QEMU's user emulation; for test_arm64.py. Nothing is installed and root is
# not needed. A second call finds it made and returns at once.
#
#   test/arm64_env.sh DIR
#   DIR/python -c 'import platform; print(platform.machine())'
set -eu
. "$(dirname "$0")/env.sh"

[ $# -eq 1 ] || fail "expected one argument, the folder to make, such as .cache/arm64"
packages="python3 python3-numpy python3-opencv python3-yaml"
recipe="1 $packages"
begin "$1" root qemu
command -v apt-get >/dev/null || fail "no apt-get here; this needs Debian or Ubuntu"

# Private folders and no locks, so that it works without root and changes nothing. Nothing counts as
# installed, so that every library comes along.
mkdir -p "$dir/root/lists/partial" "$dir/root/debs/partial" "$dir/qemu"
: >"$dir/root/status"
apt_for_arm64() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o "Dir::State::status=$dir/root/status" -o "Dir::State::lists=$dir/root/lists/" \
        -o "Dir::Cache=$dir/root/debs/" -o "Dir::Cache::archives=$dir/root/debs/" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@"
}
apt_for_arm64 update >&2 || fail "apt-get cannot fetch the package lists of arm64"
# shellcheck disable=SC2086 # a list of names
apt_for_arm64 -y --no-install-recommends --download-only install $packages </dev/null >&2 \
    || fail "apt-get cannot download $packages for arm64"
for deb in "$dir"/root/debs/*.deb; do
    dpkg-deb -x "$deb" "$dir/root"
done
rm -rf "$dir/root/debs" "$dir/root/lists" "$dir/root/usr/share"

if qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64); then :; else
    (cd "$dir/qemu" && apt-get -qq -o APT::Sandbox::User=root download qemu-user-static >&2 \
        && dpkg-deb -x ./*.deb . && rm ./*.deb) \
        || fail "no qemu-aarch64 here: sudo apt install qemu-user-static"
    qemu=$dir/qemu/usr/bin/qemu-aarch64-static
fi
# blas and lapack lie in folders of their own, which Debian's alternatives would link to.
libraries=$dir/root/usr/lib/aarch64-linux-gnu
libraries=$libraries:$libraries/blas:$libraries/lapack
python=$(readlink "$dir/root/usr/bin/python3")
cat >"$dir/python" <<END
#!/bin/sh
exec "$qemu" -L "$dir/root" -E "LD_LIBRARY_PATH=$libraries" "$dir/root/usr/bin/$python" "\$@"
END
chmod +x "$dir/python"
"$dir/python" -c 'import cv2, numpy, platform, yaml; assert platform.machine() == "aarch64"' \
    || fail "the packages were unpacked but cannot be imported (see above)"
finish
