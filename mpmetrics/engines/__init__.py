"""vLLM, LMCache and Dynamo on one correct page."""
