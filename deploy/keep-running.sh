#!/bin/sh
# Starts a command again whenever it ends by a failure or a signal, a little later each time in a row.
#   deploy/keep-running.sh .venv/bin/cai serve --port 8000
# Ends when the command ends well, or on SIGTERM and SIGINT, which are passed on.
set -u
wait_s=1
stopping=0
child=
trap 'stopping=1; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
while [ "$stopping" = 0 ]; do
    began=$(date +%s)
    "$@" &
    child=$!
    [ "$stopping" = 0 ] || kill -TERM "$child" # told between the two lines above
    wait "$child"
    status=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
    [ "$stopping" = 1 ] && exit "$status"
    [ "$status" = 0 ] && exit 0
    [ "$status" = 2 ] && exit 2 # bad usage: another try would say the same
    [ $(($(date +%s) - began)) -gt 60 ] && wait_s=1
    echo "keep-running: ended with $status; again in $wait_s s" >&2
    sleep "$wait_s" & # a signal ends the wait for it, where it would not end the sleep itself
    child=$!
    wait "$child"
    [ "$wait_s" -lt 30 ] && wait_s=$((wait_s * 2))
done
exit 0
