"""The command `mpmetrics`: each command parses, calls one function of the library, and prints."""
