# The agent, and nothing else: the host says what to do by it.
bulkhead-agent
