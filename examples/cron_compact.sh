#!/bin/sh
# Fold the files of dead workers.
#
#   cron_compact.sh DIR [OPTION]...
#
# DIR is the server's PROMETHEUS_MULTIPROC_DIR, and the options are those of
# `mpmetrics compact`. In the crontab of the workers' user (the kernel tells no
# other user whether a file is open), where PATH must lead to the command:
#
#   PATH=/opt/shop/venv/bin:/usr/bin:/bin
#   */5 * * * * cron_compact.sh /run/shop/metrics
#
# Prints nothing unless a file is damaged or the compaction fails; cron mails
# such messages.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 DIR [OPTION]..." >&2
    exit 2
fi
directory=$1
shift

exec mpmetrics compact "$@" -- "$directory" >/dev/null
