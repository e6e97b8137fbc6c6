#!/bin/sh
# Unpack packages of Debian or Ubuntu, and the libraries that they need and this machine lacks,
# below a folder. Nothing is installed and root is not needed. Prints the LD_LIBRARY_PATH to use.
#
#   test/unpack_debs.sh DIR PACKAGE...
set -eu

fail() {
    echo "unpack_debs.sh: $*" >&2
    exit 1
}

[ $# -gt 1 ] || fail "expected the folder to make and at least one package"
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift
packages=$*
for tool in apt-get apt-cache dpkg-deb; do
    command -v $tool >/dev/null || fail "no $tool here; this needs Debian or Ubuntu"
done

# Private folders and no locks, so that it works without root and changes nothing.
debs=$dir/debs
set -- -qq -o Debug::NoLocking=1 -o "Dir::Cache=$debs/" -o "Dir::Cache::archives=$debs/"
if [ "$(id -u)" -eq 0 ]; then
    set -- "$@" -o APT::Sandbox::User=root
fi
download() {
    mkdir -p "$debs/partial"
    # shellcheck disable=SC2086 # lists of names
    needed=$(apt-cache "$@" depends --important $packages \
        | sed -n 's/^ *Depends: \(lib[^ <>]*\)$/\1/p' | sort -u)
    [ -n "$needed" ] || return 1
    # shellcheck disable=SC2086
    apt-get "$@" -y --no-install-recommends --download-only install $needed </dev/null >/dev/null \
        && (cd "$debs" && apt-get "$@" download $packages)
}
if ! download "$@" 2>/dev/null; then
    # No package lists, or old ones: fetch them, to a folder of our own.
    mkdir -p "$dir/lists/partial"
    set -- "$@" -o "Dir::State::lists=$dir/lists/"
    apt-get "$@" update >&2 || fail "apt-get cannot fetch its package lists"
    download "$@" || fail "apt-get cannot download $packages; does this distribution have it?" \
        "(apt-cache policy $packages)"
fi
for deb in "$debs"/*.deb; do
    dpkg-deb -x "$deb" "$dir"
done
rm -rf "$debs" "$dir/lists" "$dir/usr/share"

# blas and lapack lie in folders of their own, which Debian's alternatives would link to.
libraries=$(echo "$dir"/usr/lib/*-linux-gnu*)
echo "$libraries:$libraries/blas:$libraries/lapack:$dir/usr/lib:$dir/lib/${libraries##*/}"
