"""Fixtures for tests of applications."""
