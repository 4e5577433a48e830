"""Milliseconds: every contender in a process of its own, in turn."""
