#!/bin/sh
# Installs the Debian packages that the tests use, where that is possible, and says loudly where it is not.
#
#   tests/packages.sh venv      what `python3 -m venv` lacks on Debian; without it nothing works, so it may fail
#   tests/packages.sh system    real components for tests that use them; without one its tests are skipped, with the reason
#
# Never fails for a missing component: the tests that need it say so in their skip reasons.
set -u

loud() {
    printf '\n*** %s\n\n' "$*" >&2
}

# package:program, the program being what tells that the package is there
case "${1:-}" in
    venv) wanted="python3-venv:" ;;
    system) wanted="zfs-fuse:zfs-fuse curl:curl groff-base:groff chromium:chromium iproute2:ip nftables:nft openssh-server:sshd" ;;
    *) echo "usage: $0 venv|system" >&2; exit 2 ;;
esac

missing=""
for pair in $wanted; do
    program=${pair#*:}
    # Daemons live in sbin, which is not on everybody's PATH.
    if [ -z "$program" ] || ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1; then
        missing="$missing ${pair%%:*}"
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    loud "not a Debian machine: these are not installed and their tests will be skipped:$missing"
elif [ "$(id -u)" -ne 0 ]; then
    loud "not root: these are not installed and their tests will be skipped:$missing" \
        "(as root: apt-get install --no-install-recommends$missing)"
else
    export DEBIAN_FRONTEND=noninteractive
    # A package's daemon is not to start by itself here: the tests start their own, on private directories.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    log=$(mktemp)
    # shellcheck disable=SC2086  # a list of words
    if { apt-get -q update && apt-get -qy install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        echo "installed:$missing"
    else
        tail -n 20 "$log" >&2
        loud "could not install; their tests will be skipped:$missing"
    fi
    rm -f "$log"
fi

# Without venv there is no environment and no test at all.
[ "$1" != venv ] || python3 -c 'import ensurepip, venv' 2>/dev/null || {
    loud "python3 -m venv does not work here: install your system's package for it (Debian: python3-venv)"
    exit 1
}
exit 0
