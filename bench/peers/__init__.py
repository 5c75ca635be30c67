"""One small adapter per peer, each run as a program in that peer's own environment."""
