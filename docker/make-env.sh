#!/bin/sh
# Writes docker/.env for docker-compose.yml, with passwords and a token of its own making:
#   sh docker/make-env.sh
# and docker/.env.existing for docker-compose.existing.yml, which a Label Studio that runs already gave its token for:
#   LABEL_STUDIO_URL=https://labels.example.com LABEL_STUDIO_API_KEY=<token> sh docker/make-env.sh existing
# A file that exists is left alone. Nobody but its owner can read it.
set -eu
umask 077
cd "$(dirname "$0")"

case "${1:-}" in
"") example=.env.example target=.env ;;
existing) example=.env.existing.example target=.env.existing ;;
*) echo "Use: sh docker/make-env.sh [existing]" >&2 && exit 2 ;;
esac
if [ -e "$target" ]; then
    echo "docker/$target exists already; it is left as it is." >&2
    exit 1
fi

random() { # random BYTES: twice as many characters
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}
set_in_draft() { # set_in_draft NAME VALUE; the value may hold anything but a line break
    NAME=$1 VALUE=$2 awk 'index($0, ENVIRON["NAME"] "=") == 1 { $0 = ENVIRON["NAME"] "=" ENVIRON["VALUE"] } { print }' \
        "$target.draft" >"$target.next"
    mv "$target.next" "$target.draft"
}
trap 'rm -f "$target.draft" "$target.next"' EXIT
cat "$example" >"$target.draft"
if [ "$target" = .env ]; then
    set_in_draft POSTGRES_PASSWORD "$(random 16)"
    set_in_draft LABEL_STUDIO_USERNAME "${LABEL_STUDIO_USERNAME:-owner@example.com}"
    set_in_draft LABEL_STUDIO_PASSWORD "$(random 8)"
    set_in_draft LABEL_STUDIO_API_KEY "$(random 20)"
else
    set_in_draft LABEL_STUDIO_URL "${LABEL_STUDIO_URL:?is the address of Label Studio}"
    set_in_draft LABEL_STUDIO_API_KEY "${LABEL_STUDIO_API_KEY:?is a personal access token of Label Studio}"
fi
set_in_draft BASIC_AUTH_USER label-studio
set_in_draft BASIC_AUTH_PASS "$(random 16)"
mv "$target.draft" "$target"
echo "Written: docker/$target"
