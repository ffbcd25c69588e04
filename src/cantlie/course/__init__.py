"""The treatment calendar, the dose of every session and its accumulation."""
