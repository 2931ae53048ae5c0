#!/bin/sh
# Installs what comes from Debian's or Ubuntu's packages and is not there yet; without root says what to run.
# None of it is needed to run the backend, so a package that cannot be had is named and the set-up goes on.
set -eu

missing=""
want() { # want PACKAGE WHAT-FOR TEST...
    package=$1
    purpose=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing="$missing $package"
        echo "not installed: $package ($purpose)"
    fi
}
want chromium "the browser tests" command -v chromium
want dataset-fashion-mnist "the demo's images; else they are downloaded" \
    test -e /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
want postgresql "the state tests on PostgreSQL" sh -c 'command -v initdb || ls /usr/lib/postgresql/*/bin/initdb'

if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "To have it all: sudo apt-get install$missing"
    exit 0
fi
apt-get update -qq || echo "the package lists could not be renewed; going on with the old ones" >&2
for package in $missing; do
    echo "installing $package"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "could not install $package; going on without it" >&2
done
