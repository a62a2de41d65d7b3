#!/bin/sh
# Installs Debian packages, but only those whose purpose is not served yet; touches apt only when something is missing.
#
#   tools/need.sh WHAT=PACKAGE ...
#
# WHAT is a command (ffmpeg=ffmpeg) or a module of the system's python (python:ensurepip=python3-venv).
set -eu

there() {
    case $1 in
        python:*) "${PYTHON:-python3}" -c "import ${1#python:}" 2>/dev/null ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

missing=
for pair in "$@"; do
    package=${pair#*=}
    there "${pair%%=*}" && continue
    case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "what is missing here:$missing (the names of Debian's packages); install it and call make again" >&2
    exit 1
fi
echo "installing$missing"
install() {
    # shellcheck disable=SC2086  # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if install >"$log" 2>&1 || { as_root apt-get update -qq && install; } >"$log" 2>&1; then
    exit 0
fi
cat "$log" >&2
echo "apt-get could not install$missing" >&2
exit 1
