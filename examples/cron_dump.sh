#!/bin/sh
# Write the merged metrics of a server to a file for the textfile collector of
# the node exporter.
#
#   cron_dump.sh DIR FILE [OPTION]...
#
# DIR is the server's PROMETHEUS_MULTIPROC_DIR, FILE ends in .prom, and the
# options are those of `mpmetrics dump`. In a crontab, where PATH must lead to
# the command:
#
#   PATH=/opt/shop/venv/bin:/usr/bin:/bin
#   * * * * * cron_dump.sh /run/shop/metrics /var/lib/node_exporter/shop.prom
#
# FILE is replaced as a whole or not at all. If the dump fails, the old page
# stays, cron mails the reason from standard error, and Prometheus sees the age
# of FILE (node_textfile_mtime_seconds).
set -eu

if [ $# -lt 2 ]; then
    echo "usage: $0 DIR FILE [OPTION]..." >&2
    exit 2
fi
directory=$1
file=$2
shift 2

# Beside FILE, so that it can be renamed, and not called *.prom, so that the
# collector ignores it.
temporary=$(mktemp "$file.XXXXXX")
trap 'rm -f "$temporary"' EXIT
trap 'exit 1' HUP INT TERM

mpmetrics dump "$@" -- "$directory" >"$temporary"
chmod 644 "$temporary" # mktemp makes it readable for its owner only
mv -f "$temporary" "$file"
