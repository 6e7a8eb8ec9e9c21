#!/bin/sh
# Uvicorn, with the metrics of all of its workers at
# http://127.0.0.1:9464/metrics.
#
#   uvicorn.sh [OPTION]...
#
# The options are those of `mpmetrics run`. It passes signals on to uvicorn:
# TERM ends the server, HUP replaces the workers one by one, TTIN adds a worker
# and TTOU removes one.
set -eu

exec mpmetrics run "$@" -- \
    uvicorn --workers 2 --app-dir "$(dirname "$0")" greetings:asgi
