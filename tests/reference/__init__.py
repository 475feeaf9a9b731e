"""Readable NumPy twins of the algorithms, and problems whose answers are known."""
