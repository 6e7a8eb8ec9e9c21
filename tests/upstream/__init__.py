"""Comparisons with the real packages of engines, which `make engines` runs: no part of the suite.

They need vLLM, LMCache, Dynamo and a build of torch for the CPU, which are large; no GPU. Each
module is a check: a program that prints the differences, one on a line, and nothing if there is
none. A check imports engines, so each runs in a process of its own.
"""
