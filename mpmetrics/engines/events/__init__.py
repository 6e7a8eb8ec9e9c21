"""The KV events of engines: received without loss, counted once, and passed on."""
