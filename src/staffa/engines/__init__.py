"""Engines, one module per database."""
