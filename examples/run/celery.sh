#!/bin/sh
# Celery's workers, with the metrics of all of them at
# http://127.0.0.1:9464/metrics.
#
#   celery.sh [OPTION]...
#
# The options are those of `mpmetrics run`. Celery replaces each worker process
# after 100 tasks; its counts stay. After TERM, tasks that have begun end first.
set -eu

PYTHONPATH=$(dirname "$0")
export PYTHONPATH
exec mpmetrics run "$@" -- \
    celery --app tasks worker \
    --pool prefork --concurrency 2 --max-tasks-per-child 100
