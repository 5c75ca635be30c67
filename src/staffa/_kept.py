"""Parts that run until their own end, whatever befalls them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger("staffa")

RESTART_SECONDS = 1.0


async def kept(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a part to its end, again if it falls."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("%s fell and is started again", name)
            await asyncio.sleep(RESTART_SECONDS)
        else:
            return
