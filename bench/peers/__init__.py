"""One small adapter per peer, run in that peer's own environment.

Each has three functions: `prepare(url)` makes the peer's tables, `fill(url, jobs, seconds)` stores jobs as fast as
its documentation says, `work(url, tally, setting)` runs them until it is killed.
"""
