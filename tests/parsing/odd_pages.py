"""Odd pages of exporters, for a real Prometheus and for our reader.

Each is written as its exporter would send it. `NOW` stands for the current time in whole
seconds, and `PAST` for a time some seconds earlier, because Prometheus refuses times long ago.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TEXT: Final[dict[str, str]] = {
    # -- families and their names --------------------------------------------------------------
    "one gauge": "# HELP a Help.\n# TYPE a gauge\na 1\n",
    "a counter without _total": "# TYPE hits counter\nhits 5\n",
    "a counter without _total beside one with": "# TYPE hits counter\nhits 5\nhits_total 7\n",
    "two counters, one with _total": (
        "# TYPE hits counter\nhits 5\n# TYPE hits_total counter\nhits_total 7\n"
    ),
    "two counters, the one with _total first": (
        "# TYPE hits_total counter\nhits_total 7\n# TYPE hits counter\nhits 5\n"
    ),
    "a counter called total": "# TYPE _total counter\n_total 5\n# TYPE total counter\ntotal 6\n",
    "a gauge beside a counter": (
        "# TYPE a gauge\na 1\n# TYPE a_total counter\na_total 2\n"
        "# TYPE a_created gauge\na_created 3\n"
    ),
    "a gauge called total": "# TYPE a_total gauge\na_total 1\n",
    "doubled total": (
        "# TYPE a_total_total counter\na_total_total 1\n# TYPE a_total counter\na_total 2\n"
    ),
    "an untyped total": "a_total 1\na 2\n",
    "a counter with time of creation": (
        "# TYPE a_total counter\na_total 1\n# TYPE a_created gauge\na_created 1.7e+09\n"
    ),
    "untyped": "# TYPE a untyped\na 1\nb 2\n",
    "interleaved": (
        '# TYPE a gauge\n# TYPE b gauge\na{x="1"} 1\nb{x="1"} 2\na{x="2"} 3\nb{x="2"} 4\n'
    ),
    "families in pieces": (
        '# TYPE a gauge\na{x="1"} 1\n# TYPE b gauge\nb 2\n# TYPE a gauge\na{x="2"} 3\n'
    ),
    "type after the first sample": 'a 1\n# TYPE a counter\na{x="y"} 2\n',
    "type at the end": "a_total 1\n# TYPE a_total counter\n",
    "help after samples": "a 1\n# HELP a Late.\n",
    "help twice": "# HELP a One.\n# HELP a Two.\n# TYPE a gauge\na 1\n",
    "type twice": "# TYPE a gauge\n# TYPE a gauge\na 1\n",
    "two types": '# TYPE a gauge\na{x="1"} 1\n# TYPE a counter\na{x="2"} 2\n',
    "types alone": "# TYPE a gauge\n# TYPE b counter\n",
    "a histogram": (
        '# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="+Inf"} 2\na_sum 3\na_count 2\n'
    ),
    "a histogram without +Inf": '# TYPE a histogram\na_bucket{le="1"} 1\na_sum 3\na_count 2\n',
    "a histogram that falls": (
        '# TYPE a histogram\na_bucket{le="1"} 5\na_bucket{le="2"} 3\na_bucket{le="+Inf"} 4\n'
        "a_sum 3\na_count 9\n"
    ),
    "a histogram with a NaN sum": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum NaN\na_count 1\n'
    ),
    "a histogram with a negative sum": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum -1\na_count 1\n'
    ),
    "a histogram with a sample of its name": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\na 7\n'
    ),
    "a histogram with a bucket that has no bound": "# TYPE a histogram\na_bucket 1\na_count 1\n",
    "a histogram with odd bounds": (
        '# TYPE a histogram\na_bucket{le="1e0"} 1\na_bucket{le="1.0"} 2\na_bucket{le="x"} 3\n'
        'a_bucket{le="Inf"} 4\na_count 4\na_sum 0\n'
    ),
    "a histogram and a counter of its count": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n'
        '# TYPE a_count counter\na_count{x="y"} 7\n'
    ),
    "a summary": (
        '# TYPE a summary\na{quantile="0.5"} 1\na{quantile="0.9"} 2\na_sum 3\na_count 2\n'
    ),
    "a summary with quantiles only": '# TYPE a summary\na{quantile="0.5"} 1\n',
    "a summary of NaN": '# TYPE a summary\na{quantile="0.5"} NaN\na_sum 0\na_count 0\n',
    "a summary with a plain sample": "# TYPE a summary\na 1\na_sum 3\na_count 2\n",
    "a summary and a gauge of its count": (
        '# TYPE a summary\na_sum 3\na_count 2\n# TYPE a_count gauge\na_count{x="y"} 7\n'
    ),
    "a gauge of a count, then a summary": (
        '# TYPE a_count gauge\na_count{x="y"} 7\n# TYPE a summary\na_sum 3\na_count 2\n'
    ),
    "a gauge and a histogram, parts in turn": (
        '# TYPE a gauge\na 1\na_bucket{le="+Inf"} 2\na_sum 3\na_count 2\n'
    ),
    "le on a counter": '# TYPE a_total counter\na_total{le="1"} 1\na_total{quantile="2"} 1\n',
    "info as a gauge": '# TYPE a_info gauge\na_info{version="1"} 1\n# TYPE a gauge\na 1\n',
    "names of info and state": "# TYPE a_gsum gauge\na_gsum 1\n# TYPE a_gcount gauge\na_gcount 2\n",
    "colons": '# TYPE job:a:rate5m gauge\njob:a:rate5m 1\n:a{x="y"} 2\n',
    "names of one character": "a 1\n_ 2\n: 3\nA 4\n",
    "a digit first": "1a 1\n",
    "a dash in a name": "a-b 1\n",
    "a name with an umlaut": "ä 1\n",
    "names like ours": "# TYPE mpmetrics gauge\nmpmetrics 1\n",
    "a type for the suffix": (
        '# TYPE a_bucket histogram\na_bucket 1\na_bucket_bucket{le="+Inf"} 1\n'
    ),
    # -- types ---------------------------------------------------------------------------------
    "a type in capitals": "# TYPE a GAUGE\na 1\n",
    "an unknown type": "# TYPE a unknown\na 1\n",
    "a type of the other format": "# TYPE a info\na_info 1\n",
    "a type with a blank behind": "# TYPE a gauge \na 1\n",
    "a type with two blanks": "# TYPE a  gauge\na 1\n",
    "a type with a tab": "#\tTYPE\ta\tgauge\na 1\n",
    "a bare TYPE": "# TYPE\na 1\n",
    "a bare TYPE with a blank": "# TYPE \na 1\n",
    "a TYPE without a type": "# TYPE a\na 1\n",
    "a TYPE without a type and a blank": "# TYPE a \na 1\n",
    "a TYPE without a blank": "#TYPE a nonsense\na 1\n",
    "a TYPE with two blanks before": "#  TYPE a gauge\na 1\n",
    "a TYPE of an odd name": "# TYPE a-b gauge\na 1\n",
    "a TYPE of a quoted name": '# TYPE "a.b" gauge\na 1\n',
    "a TYPE in small letters": "# type a gauge\na 1\n",
    "a bare HELP": "# HELP\na 1\n",
    "a bare HELP with a blank": "# HELP \na 1\n",
    "a HELP without text": "# HELP a\na 1\n",
    "a HELP without text and a blank": "# HELP a \na 1\n",
    "a HELP with escapes": '# HELP a One\\nTwo \\\\ "three" \\x\n# TYPE a gauge\na 1\n',
    "a HELP without a TYPE": "# HELP a One.\na 1\n",
    "a HELP of an odd name": "# HELP a.b One.\na 1\n",
    "a UNIT": "# UNIT a_seconds seconds\na_seconds 1\n",
    "an EOF": "a 1\n# EOF\n",
    "samples after EOF": "a 1\n# EOF\nb 2\n",
    # -- comments, lines, blanks ---------------------------------------------------------------
    "nothing": "",
    "a line break": "\n",
    "blank lines": "\n\na 1\n\n \n\t\nb 2\n\n",
    "comments": "# a comment\n#\n#another\n## two\n# HELPless\n# TYPEs\na 1\n",
    "a comment at the end, without a line break": "a 1\n# over",
    "no line break at the end": "a 1\nb 2",
    "no line break after a TYPE": "a 1\n# TYPE a gauge",
    "a blank before a comment": " # comment\n\t# TYPE a gauge\na 1\n",
    "a comment behind a sample": "a 1 # why\n",
    "a blank before a name": "  a 1\n",
    "a tab before a name": '\ta{x="y"} 1\n',
    "tabs": 'a\t1\nb{x="y"}\t2\nc\t \t3\n',
    "many blanks": 'a    1\nb  {  x  =  "y"  ,  z  =  "w"  }  2  \n',
    "a blank behind a value": "a 1 \nb 2\t\n",
    "no blank before a value": 'a{x="y"}1\nb{}2\n',
    "returns": "a 1\r\nb 2\r\n",
    "returns in comments": "# HELP a One.\r\n# comment\r\na 1\n",
    "returns and a TYPE": "# TYPE a gauge\r\na 1\r\n",
    "returns behind blanks": "a 1 \r\n",
    "a return alone": "a 1\rb 2\r",
    "a form feed": "a\f1\n",
    "a byte order mark": "\ufeffa 1\n",
    "a NUL in a name": "a\0b 1\n",
    "a NUL in a value": 'a{x="\0"} 1\nb{x="y\0z"} 2\n',
    "a NUL in a comment": "# c\0c\na 1\n",
    "a NUL on a line of its own": "a 1\n\0\nb 2\n",
    "a web page": "<html><body>Not found</body></html>\n",
    "JSON": '{"a": 1}\n',
    "a vertical line separator": 'a{x="\u2028\x0b\x85\x1c"} 1\nb 2\n',
    # -- labels --------------------------------------------------------------------------------
    "no labels in braces": "a{} 1\nb{ } 2\n",
    "a trailing comma": 'a{x="y",} 1\n',
    "two trailing commas": 'a{x="y",,} 1\n',
    "a leading comma": 'a{,x="y"} 1\n',
    "only a comma": "a{,} 1\n",
    "no comma between labels": 'a{x="y" z="w"} 1\nb{x="y"z="w"} 2\n',
    "an empty value": 'a{x=""} 1\nb{x="",y="z"} 2\n',
    "an empty value beside none": 'a 1\na{x=""} 2\n',
    "escapes": 'a{x="\\\\ \\n \\" \\t \\x \\ä",y="\\\\n"} 1\n',
    "a line break in a value": 'a{x="y\nz"} 1\nb 2\n',
    "an escaped line break in a value": 'a{x="y\\\nz"} 1\nb 2\n',
    "an open value": 'a{x="y} 1\nb 2\n',
    "an open brace": 'a{x="y" 1\nb 2\n',
    "a brace too many": 'a{x="y"}} 1\n',
    "braces twice": 'a{x="y"}{z="w"} 1\n',
    "braces in a value": 'a{x="{}},=# "} 1\n',
    "unquoted": "a{x=y} 1\n",
    "single quotes": "a{x='y'} 1\n",
    "no value of a label": "a{x} 1\n",
    "no value behind the equals sign": "a{x=} 1\n",
    "two equals signs": 'a{x=="y"} 1\n',
    "no name of a label": 'a{="y"} 1\n',
    "a label with a dash": 'a{x-y="z"} 1\n',
    "a label with a colon": 'a{x:y="z"} 1\n',
    "a label with a digit": 'a{1x="z"} 1\n',
    "a label with underscores": 'a{__x="z",_="w"} 1\n',
    "a label for the name": 'a{__name__="b"} 1\n',
    "a label for the name without a name": '{__name__="b"} 1\n',
    "a doubled label": 'a{x="1",x="2"} 1\n',
    "a doubled label with one value": 'a{x="1",x="1"} 1\n',
    "a doubled label, once empty": 'a{x="1",x=""} 1\n',
    "a doubled label after good lines": 'b 1\na{x="1",x="2"} 1\nc 1\n',
    "labels of the target": 'a{job="x",instance="y",page="z",via="w"} 1\n',
    "labels of a target, moved": 'a{job="x",exported_job="y"} 1\n',
    "labels in another order": 'a{x="1",y="2"} 1\na{y="2",x="1"} 2\n',
    "values beyond ASCII": 'a{x="ä€😀\u0301"} 1\n',
    "a long value": f'a{{x="{"v" * 5000}"}} 1\n',
    "many labels": "a{" + ",".join(f'l{i}="{i}"' for i in range(100)) + "} 1\n",
    "a quoted name": '{"my.metric", a="b"} 1\n',
    "a quoted name that is classic": '{"a",x="b"} 1\n',
    "a quoted name alone": '{"a b"} 1\n',
    "a quoted name at the end": '{x="y","a.b"} 1\n',
    "two quoted names": '{"a","b"} 1\n',
    "a name before and a quoted one": 'c{"a"} 1\n',
    "a quoted label": 'a{"x.y"="z"} 1\n',
    "a quoted empty name": '{""} 1\n',
    "a quoted name with escapes": '{"a\\"b\\\\c\\nd"} 1\n',
    # -- values --------------------------------------------------------------------------------
    "numbers": "a 1\nb 1.5\nc .5\nd 5.\ne 1e5\nf 1E+5\ng -1e-5\nh +7\ni 007\nj -0\nk 0\n",
    "infinities": "a +Inf\nb Inf\nc -Inf\nd inf\ne INF\nf infinity\ng -Infinity\nh +iNf\n",
    "no numbers": "a NaN\nb nan\nc NAN\nd naN\n",
    "a NaN with a sign": "a -NaN\n",
    "a NaN with a plus": "a +NaN\n",
    "hexadecimal": "a 0x10\n",
    "a hexadecimal float": "a 0x1p4\n",
    "underscores": "a 1_000\n",
    "a comma": "a 1,5\n",
    "too large": "a 1e400\n",
    "the largest": "a 1.7976931348623157e308\nb 4.9e-324\nc 2.2250738585072014e-308\n",
    "too small": "a 1e-400\nb -1e-400\n",
    "many digits": "a 123456789012345678901234567890\nb 0.1000000000000000055511151231257827\n",
    "large whole numbers": "a 9007199254740993\nb 18446744073709551616\nc 1000000\nd 1e21\n",
    "no value": "a\n",
    "no value and a blank": "a \n",
    "no value behind labels": 'a{x="y"}\n',
    "text for a value": "a one\n",
    "true": "a true\n",
    "quotes around a value": 'a "1"\n',
    "an exponent without digits": "a 1e\n",
    "a point alone": "a .\n",
    "a sign alone": "a -\n",
    "two signs": "a --1\n",
    "digits beyond ASCII": "a \u0661\n",
    "a wide space": "a\u00a01\n",
    "a negative counter": "# TYPE a_total counter\na_total -5\n",
    "a NaN counter": "# TYPE a_total counter\na_total NaN\n",
    "a duration": "a 5s\n",
    "infinit": "a infinit\n",
    # -- times ---------------------------------------------------------------------------------
    "a time": "a 1 NOW000\n",
    "two times of one series": "a 1 PAST000\na 2 NOW000\n",
    "two times in the wrong order": "a 1 NOW000\na 2 PAST000\n",
    "a time, and the same series without": "a 1 PAST000\na 2\n",
    "a time with a sign": "a 1 -5\n",
    "a time with a plus": "a 1 +NOW000\n",
    "a time with a fraction": "a 1 NOW000.5\n",
    "a time with an exponent": "a 1 1e3\n",
    "a time that is too large": "a 1 99999999999999999999\n",
    "a time long ago": "a 1 0\nb 2\n",
    "something behind the time": "a 1 NOW000 5\n",
    "blanks around the time": 'a 1  NOW000  \nb{x="y"}\t1\tNOW000\t\n',
    "an exemplar in text": 'a_total 1 # {x="y"} 1\n',
    "times in milliseconds": "a 1 NOW001\nb 1 NOW009\nc 1 NOW333\nd 1 NOW999\n",
    # -- the same series twice -----------------------------------------------------------------
    "a series twice": "a 1\na 2\n",
    "a series twice with one value": 'a{x="y"} 1\na{x="y"} 1\n',
    "a series in two families": "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na 2\n",
    "a bucket twice": (
        '# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 2\n'
    ),
    # -- a bad line among good ones ------------------------------------------------------------
    "a bad line in the middle": "a 1\nb\nc 3\n",
    "a bad line at the end": "a 1\nb 2\nc",
}
"""Pages in the text format, by what is odd about them."""

OPENMETRICS: Final[dict[str, str]] = {
    "one gauge": "# HELP a Help.\n# TYPE a gauge\na 1\n# EOF\n",
    "no EOF": "# TYPE a gauge\na 1\n",
    "EOF without a line break": "a 1\n# EOF",
    "only EOF": "# EOF\n",
    "nothing": "",
    "EOF twice": "a 1\n# EOF\n# EOF\n",
    "samples after EOF": "a 1\n# EOF\nb 2\n",
    "a line break after EOF": "a 1\n# EOF\n\n",
    "a sample after EOF without a line break": "a 1\n# EOF\nb 2",
    "EOF with blanks": "a 1\n# EOF \n",
    "EOF in small letters": "a 1\n# eof\n",
    "EOF without a blank": "a 1\n#EOF\n",
    "EOF on the line of a sample": "a 1 # EOF\n",
    "EOFs": "a 1\n# EOFs\n",
    "a blank line": "a 1\n\nb 2\n# EOF\n",
    "a comment": "# a comment\na 1\n# EOF\n",
    "returns": "a 1\r\n# EOF\r\n",
    "a return behind EOF": "a 1\n# EOF\r\n",
    "tabs": "a\t1\n# EOF\n",
    "two blanks": "a  1\n# EOF\n",
    "a blank behind": "a 1 \n# EOF\n",
    "a blank before": " a 1\n# EOF\n",
    "blanks in labels": 'a{x="y", z="w"} 1\n# EOF\n',
    "no blank before a value": 'a{x="y"}1\n# EOF\n',
    "no labels in braces": "a{} 1\n# EOF\n",
    "a byte order mark": "\ufeffa 1\n# EOF\n",
    # -- families ------------------------------------------------------------------------------
    "a counter": "# TYPE a counter\na_total 1\na_created 2\n# EOF\n",
    "a counter called bar_total": "# TYPE bar_total counter\nbar_total 5\n# EOF\n",
    "a counter called bar_total, doubled": (
        "# TYPE bar_total counter\nbar_total_total 5\nbar_total 6\nbar_total_created 7\n# EOF\n"
    ),
    "a counter without _total": "# TYPE hits counter\nhits 5\n# EOF\n",
    "a counter with and without _total": "# TYPE hits counter\nhits 5\nhits_total 7\n# EOF\n",
    "a gauge beside a counter": "# TYPE a gauge\na 1\n# TYPE a_total counter\na_total 2\n# EOF\n",
    "a gauge and a counter of one name": (
        "# TYPE a gauge\na 1\n# TYPE a counter\na_total 2\n# EOF\n"
    ),
    "interleaved": (
        '# TYPE a gauge\n# TYPE b gauge\na{x="1"} 1\nb{x="1"} 2\na{x="2"} 3\nb{x="2"} 4\n# EOF\n'
    ),
    "families in pieces": (
        '# TYPE a gauge\na{x="1"} 1\n# TYPE b gauge\nb 2\n# TYPE a gauge\na{x="2"} 3\n# EOF\n'
    ),
    "a histogram without +Inf": (
        '# TYPE a histogram\na_bucket{le="1.0"} 1\na_sum 3\na_count 2\n# EOF\n'
    ),
    "a histogram with a NaN sum": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum NaN\na_count 1\n# EOF\n'
    ),
    "a histogram with a negative sum": (
        '# TYPE a histogram\na_bucket{le="-1.0"} 1\na_bucket{le="+Inf"} 1\na_sum -1\na_count 1\n'
        "# EOF\n"
    ),
    "a histogram with times of creation": (
        '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\na_created 5\n# EOF\n'
    ),
    "whole bounds": '# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="+Inf"} 1\n# EOF\n',
    "a gauge histogram": (
        '# TYPE a gaugehistogram\na_bucket{le="1.0"} 1\na_bucket{le="+Inf"} 2\na_gsum -3\n'
        "a_gcount 2\n# EOF\n"
    ),
    "an info": '# TYPE a info\na_info{version="1"} 1\n# EOF\n',
    "an info with the value 2": '# TYPE a info\na_info{version="1"} 2\n# EOF\n',
    "an info without its suffix": '# TYPE a_info info\na_info{version="1"} 1\n# EOF\n',
    "an info beside a gauge": (
        '# TYPE a info\na_info{v="1"} 1\n# TYPE a_info gauge\na_info 1\n# EOF\n'
    ),
    "a state set": '# TYPE a stateset\na{a="on"} 1\na{a="off"} 0\n# EOF\n',
    "a state set with other values": '# TYPE a stateset\na{b="on"} 5\na 7\n# EOF\n',
    "unknown": "# TYPE a unknown\na 1\nb 2\n# EOF\n",
    "untyped": "# TYPE a untyped\na 1\n# EOF\n",
    "an unknown type": "# TYPE a nonsense\na 1\n# EOF\n",
    "a bare TYPE": "# TYPE\na 1\n# EOF\n",
    "a TYPE without a type": "# TYPE a\na 1\n# EOF\n",
    "a TYPE with two blanks": "# TYPE a  gauge\na 1\n# EOF\n",
    "a HELP without text": "# HELP a\na 1\n# EOF\n",
    "a HELP without text and a blank": "# HELP a \na 1\n# EOF\n",
    "a HELP with escapes": '# HELP a One\\nTwo \\\\ \\"three\\" \\x\n# TYPE a gauge\na 1\n# EOF\n',
    "a HELP with quotes": '# HELP a "One"\n# TYPE a gauge\na 1\n# EOF\n',
    "a HELP twice": "# HELP a One\n# HELP a Two\na 1\n# EOF\n",
    "a TYPE twice": "# TYPE a gauge\n# TYPE a gauge\na 1\n# EOF\n",
    "a TYPE after the sample": "a 1\n# TYPE a gauge\n# EOF\n",
    "a unit": "# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n",
    "a unit of a counter": (
        "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 1\n# EOF\n"
    ),
    "a unit that is not in the name": "# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n",
    "an empty unit": "# TYPE a gauge\n# UNIT a \na 1\n# EOF\n",
    "a bare UNIT": "# UNIT\na 1\n# EOF\n",
    "a summary": (
        '# TYPE a summary\na{quantile="0.5"} 1\na_sum 3\na_count 2\na_created 1\n# EOF\n'
    ),
    "a summary with quantiles only": '# TYPE a summary\na{quantile="0.5"} 1\n# EOF\n',
    "a summary with a negative sum": "# TYPE a summary\na_sum -3\na_count 2\n# EOF\n",
    "a negative counter": "# TYPE a counter\na_total -1\n# EOF\n",
    "a NaN counter": "# TYPE a counter\na_total NaN\n# EOF\n",
    "le on a counter": '# TYPE a counter\na_total{le="1.0"} 1\n# EOF\n',
    "a series twice": "# TYPE a gauge\na 1\na 2\n# EOF\n",
    "a counter's summary": "# TYPE a counter\na_total 1\na_count 2\na_sum 3\n# EOF\n",
    "a summary and a gauge of its count": (
        '# TYPE a summary\na_sum 3\na_count 2\n# TYPE a_count gauge\na_count{x="y"} 7\n# EOF\n'
    ),
    # -- labels, values ------------------------------------------------------------------------
    "a trailing comma": 'a{x="y",} 1\n# EOF\n',
    "a leading comma": 'a{,x="y"} 1\n# EOF\n',
    "only a comma": "a{,} 1\n# EOF\n",
    "no comma between labels": 'a{x="y"z="w"} 1\n# EOF\n',
    "an empty value": 'a{x=""} 1\n# EOF\n',
    "a doubled label": 'a{x="1",x="2"} 1\n# EOF\n',
    "a label with a colon": 'a{x:y="z"} 1\n# EOF\n',
    "escapes": 'a{x="\\\\ \\n \\" \\t",y="\\\\n"} 1\n# EOF\n',
    "a line break in a value": 'a{x="y\nz"} 1\nb 2\n# EOF\n',
    "an escaped line break in a value": 'a{x="y\\\nz"} 1\nb 2\n# EOF\n',
    "numbers": "a 1\nb 1.5\nc .5\nd 5.\ne 1e5\nf 1E+5\ng -1e-5\nh +7\ni 007\n# EOF\n",
    "infinities": "a +Inf\nb Inf\nc -Inf\nd inf\ne infinity\nf NaN\ng nan\n# EOF\n",
    "a hexadecimal float": "a 0x1p4\n# EOF\n",
    "underscores": "a 1_000\n# EOF\n",
    "too large": "a 1e400\n# EOF\n",
    "a quoted name": '{"my.metric",a="b"} 1\n# EOF\n',
    # -- times and exemplars -------------------------------------------------------------------
    "a time": "a 1 NOW\n# EOF\n",
    "a time with a fraction": "a 1 NOW.125\nb 1 NOW.001\nc 1 NOW.9999\nd 1 NOW.33333333\n# EOF\n",
    "a time with an exponent": "a 1 1.7e9\n# EOF\n",
    "a negative time": "a 1 -5\n# EOF\n",
    "a time that is no number": "a 1 NaN\n# EOF\n",
    "an infinite time": "a 1 Inf\n# EOF\n",
    "something behind the time": "a 1 NOW 5\n# EOF\n",
    "two times of one series": "a 1 PAST\na 2 NOW\n# EOF\n",
    "an exemplar": '# TYPE a counter\na_total 1 # {trace_id="x"} 0.5\n# EOF\n',
    "an exemplar with a time": (
        '# TYPE a counter\na_total 1 NOW # {trace_id="x"} 0.5 NOW.5\n# EOF\n'
    ),
    "an exemplar without labels": "# TYPE a counter\na_total 1 # {} 0.5\n# EOF\n",
    "an exemplar on a gauge": '# TYPE a gauge\na 1 # {x="y"} 0.5\n# EOF\n',
    "an exemplar on a sum": '# TYPE a summary\na_sum 1 # {x="y"} 0.5\na_count 1\n# EOF\n',
    "an exemplar without a value": 'a_total 1 # {x="y"}\n# EOF\n',
    "an exemplar without a blank": 'a_total 1 #{x="y"} 1\n# EOF\n',
    "an exemplar with a long label": (
        f'# TYPE a counter\na_total 1 # {{x="{"y" * 200}"}} 0.5\n# EOF\n'
    ),
    "an exemplar with a bad time": 'a_total 1 # {x="y"} 1 x\n# EOF\n',
    "a comment behind a sample": "a 1 # why\n# EOF\n",
    "an exemplar on a bucket": (
        '# TYPE a histogram\na_bucket{le="1.0"} 1 # {x="y"} 0.5 NOW\na_bucket{le="+Inf"} 2\n# EOF\n'
    ),
    "a bad line in the middle": "a 1\nb\nc 3\n# EOF\n",
}
"""Pages in OpenMetrics, by what is odd about them."""

BYTES: Final[dict[str, bytes]] = {
    "bytes that are no UTF-8 in a value": b'a{x="\xff"} 1\n',
    "bytes that are no UTF-8 in a help text": b"# HELP a \xff\na 1\n",
    "bytes that are no UTF-8 in a comment": b"# \xff\xfe\na 1\n",
    "bytes that are no UTF-8 in a name": b"a\xff 1\n",
    "bytes that are no UTF-8 in a number": b"a 1\xff\n",
    "half a surrogate": b'a{x="\xed\xa0\x80"} 1\n',
    "UTF-16": "a 1\n".encode("utf-16"),
    "Latin-1": 'a{x="ä"} 1\n'.encode("latin-1"),
    "a protobuf message": b"\x0a\x01a\x18\x01",
}
"""Pages of the text format that are no text."""


class OddPage(NamedTuple):
    """A page: the *kind* in its Content-Type, and its *body*."""

    kind: str
    body: bytes

    @property
    def openmetrics(self) -> bool:
        """Whether it is in OpenMetrics."""
        return self.kind.startswith("application/openmetrics-text")

    def at(self, now: int) -> OddPage:
        """Return the page as of the time *now*, in seconds."""
        body = self.body.replace(b"NOW", b"%d" % now).replace(b"PAST", b"%d" % (now - 5))
        return self._replace(body=body)


_TEXT_KIND: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_KIND: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

ODD_PAGES: Final[dict[str, OddPage]] = {
    **{f"text: {name}": OddPage(_TEXT_KIND, page.encode()) for name, page in TEXT.items()},
    **{
        f"om: {name}": OddPage(_OPENMETRICS_KIND, page.encode())
        for name, page in OPENMETRICS.items()
    },
    **{f"bytes: {name}": OddPage(_TEXT_KIND, page) for name, page in BYTES.items()},
}
"""All odd pages, by what is odd about them."""

REFUSED: Final = frozenset(
    {
        "text: a digit first",
        "text: a dash in a name",
        "text: a name with an umlaut",
        "text: a type in capitals",
        "text: an unknown type",
        "text: a type of the other format",
        "text: a type with a blank behind",
        "text: a type with two blanks",
        "text: a bare TYPE with a blank",
        "text: a TYPE without a type",
        "text: a TYPE without a type and a blank",
        "text: a TYPE of an odd name",
        "text: a bare HELP with a blank",
        "text: a comment behind a sample",
        "text: a blank before a name",
        "text: a tab before a name",
        "text: returns",
        "text: returns and a TYPE",
        "text: returns behind blanks",
        "text: a return alone",
        "text: a form feed",
        "text: a byte order mark",
        "text: a NUL in a name",
        "text: a web page",
        "text: JSON",
        "text: two trailing commas",
        "text: a leading comma",
        "text: only a comma",
        "text: an escaped line break in a value",
        "text: an open value",
        "text: an open brace",
        "text: a brace too many",
        "text: braces twice",
        "text: unquoted",
        "text: single quotes",
        "text: no value of a label",
        "text: no value behind the equals sign",
        "text: two equals signs",
        "text: no name of a label",
        "text: a label with a dash",
        "text: a label with a colon",
        "text: a label with a digit",
        "text: a label for the name",
        "text: a label for the name without a name",
        "text: a doubled label",
        "text: a doubled label with one value",
        "text: a doubled label after good lines",
        "text: two quoted names",
        "text: a name before and a quoted one",
        "text: a quoted empty name",
        "text: a NaN with a sign",
        "text: a NaN with a plus",
        "text: hexadecimal",
        "text: a hexadecimal float",
        "text: underscores",
        "text: a comma",
        "text: too large",
        "text: no value",
        "text: no value and a blank",
        "text: no value behind labels",
        "text: text for a value",
        "text: true",
        "text: quotes around a value",
        "text: an exponent without digits",
        "text: a point alone",
        "text: a sign alone",
        "text: two signs",
        "text: digits beyond ASCII",
        "text: a wide space",
        "text: a duration",
        "text: infinit",
        "text: a time with a sign",
        "text: a time with a plus",
        "text: a time with a fraction",
        "text: a time with an exponent",
        "text: a time that is too large",
        "text: something behind the time",
        "text: an exemplar in text",
        "text: a bad line in the middle",
        "text: a bad line at the end",
        "om: no EOF",
        "om: nothing",
        "om: EOF twice",
        "om: samples after EOF",
        "om: a line break after EOF",
        "om: a sample after EOF without a line break",
        "om: EOF with blanks",
        "om: EOF in small letters",
        "om: EOF without a blank",
        "om: EOF on the line of a sample",
        "om: EOFs",
        "om: a blank line",
        "om: a comment",
        "om: returns",
        "om: a return behind EOF",
        "om: tabs",
        "om: two blanks",
        "om: a blank behind",
        "om: a blank before",
        "om: blanks in labels",
        "om: no blank before a value",
        "om: a byte order mark",
        "om: untyped",
        "om: an unknown type",
        "om: a bare TYPE",
        "om: a TYPE without a type",
        "om: a TYPE with two blanks",
        "om: a HELP without text",
        "om: a unit that is not in the name",
        "om: a bare UNIT",
        "om: a leading comma",
        "om: only a comma",
        "om: no comma between labels",
        "om: a doubled label",
        "om: a label with a colon",
        "om: a line break in a value",
        "om: an escaped line break in a value",
        "om: a hexadecimal float",
        "om: underscores",
        "om: too large",
        "om: a time that is no number",
        "om: an infinite time",
        "om: something behind the time",
        "om: an exemplar without a value",
        "om: an exemplar without a blank",
        "om: an exemplar with a bad time",
        "om: a comment behind a sample",
        "om: a bad line in the middle",
        "bytes: bytes that are no UTF-8 in a value",
        "bytes: bytes that are no UTF-8 in a help text",
        "bytes: bytes that are no UTF-8 in a name",
        "bytes: bytes that are no UTF-8 in a number",
        "bytes: half a surrogate",
        "bytes: UTF-16",
        "bytes: Latin-1",
        "bytes: a protobuf message",
    }
)
"""The pages that every Prometheus refuses."""

NEWER: Final = frozenset(
    {
        "text: a TYPE of a quoted name",
        "text: a quoted name",
        "text: a quoted name that is classic",
        "text: a quoted name alone",
        "text: a quoted name at the end",
        "text: a quoted label",
        "text: a quoted name with escapes",
        "om: a trailing comma",
        "om: a quoted name",
        "om: an exemplar on a gauge",
        "om: an exemplar on a sum",
    }
)
"""The pages that Prometheus 3 accepts and 2.42 refuses."""
