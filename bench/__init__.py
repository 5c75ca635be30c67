"""Measures Staffa beside other job systems and beside what the databases could do; no part of the package."""
