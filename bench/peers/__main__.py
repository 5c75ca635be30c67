"""What starts an adapter: `python -m bench.peers NAME VERB JSON`; what comes of it is printed as JSON."""

import importlib
import json
import sys

name, verb, given = sys.argv[1:]
adapter = importlib.import_module(f"bench.peers.{name}")
sys.stdout.write(f"{json.dumps(getattr(adapter, verb)(**json.loads(given)))}\n")
