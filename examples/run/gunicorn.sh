#!/bin/sh
# Gunicorn, with the metrics of all of its workers at
# http://127.0.0.1:9464/metrics.
#
#   gunicorn.sh [OPTION]...
#
# The options are those of `mpmetrics run`. It passes signals on to gunicorn:
# TERM ends the server, HUP replaces the workers, USR2 replaces the whole
# server.
set -eu

exec mpmetrics run "$@" -- \
    gunicorn --workers 4 --chdir "$(dirname "$0")" greetings:wsgi
