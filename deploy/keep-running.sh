#!/bin/sh
# Starts a command again whenever it ends by a failure or a signal, a little later each time in a row.
#   deploy/keep-running.sh .venv/bin/cai serve --port 8000
# Ends when the command ends well, or on SIGTERM and SIGINT, which are passed on.
set -u
wait_s=1
trap 'stopping=1; kill -TERM "$child" 2>/dev/null' TERM INT
stopping=0
while :; do
    began=$(date +%s)
    "$@" &
    child=$!
    wait "$child"
    status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
    [ "$stopping" = 1 ] && exit "$status"
    [ "$status" = 0 ] && exit 0
    [ "$status" = 2 ] && exit 2 # bad usage: another try would say the same
    [ $(($(date +%s) - began)) -gt 60 ] && wait_s=1
    echo "keep-running: ended with $status; again in $wait_s s" >&2
    sleep "$wait_s"
    [ "$wait_s" -lt 30 ] && wait_s=$((wait_s * 2))
done
