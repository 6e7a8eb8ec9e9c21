"""KV connectors, several at once: their statistics, their metrics, and the composite of them.

What a connector is, and what it is asked, follows vLLM. Nothing here imports it.
"""
