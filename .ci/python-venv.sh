#!/bin/sh
# python-venv.sh PYTHON DIRECTORY: makes a virtual environment. Debian and Ubuntu keep a part of Python that this
# needs in a package of its own: root gets it installed, others are told.
set -eu
python=$1
directory=$2

if [ -z "$python" ]; then
    exit 1 # find-python.sh has said why
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    echo "$python is $("$python" --version); Python 3.11, 3.12 or 3.13 is needed." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$python cannot make environments yet. Run: sudo apt-get install $package" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null
fi
if ! "$python" -m venv --clear "$directory"; then
    rm -rf "$directory" # nothing half made is left behind
    exit 1
fi
