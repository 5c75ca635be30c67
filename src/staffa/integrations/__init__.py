"""Other libraries, each in one module."""
