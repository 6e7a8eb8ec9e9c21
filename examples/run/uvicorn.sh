#!/bin/sh
# Uvicorn, with the metrics of all of its workers at http://127.0.0.1:9464/metrics.
#
#   uvicorn.sh [OPTION]...
#
# The options are those of `mpmetrics run`. Signals sent to it reach uvicorn: TERM ends it, HUP
# replaces the workers one by one, TTIN and TTOU have one more and one less.
set -eu

exec mpmetrics run "$@" -- uvicorn --workers 2 --app-dir "$(dirname "$0")" greetings:asgi
