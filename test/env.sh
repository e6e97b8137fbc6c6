# Read by the scripts here that make an environment in a folder: what begins and ends each of them.
# A script sets $recipe, all that its result depends on, before it calls `begin`.

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# begin DIR NAME...: set $dir to the folder. If it was made by the same recipe, print its Python and
# exit; else remove what an earlier recipe left of these names.
begin() {
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    shift
    if [ "$(cat "$dir/made" 2>/dev/null)" = "$recipe" ]; then
        echo "$dir/python"
        exit 0
    fi
    for name in made python "$@"; do
        rm -rf "${dir:?}/$name"
    done
}

# runner PYTHON VARIABLE=FOLDERS...: write $dir/python, which runs a Python with folders put before
# those of some variables.
runner() {
    interpreter=$1
    shift
    {
        echo '#!/bin/sh'
        for setting in "$@"; do
            name=${setting%%=*}
            echo "export $name=\"${setting#*=}\${$name:+:\$$name}\""
        done
        echo "exec \"$interpreter\" \"\$@\""
    } >"$dir/python"
    chmod +x "$dir/python"
}

# finish: say that all is made.
finish() {
    echo "$recipe" >"$dir/made"
    echo "$dir/python"
}
