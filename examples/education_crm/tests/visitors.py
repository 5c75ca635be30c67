"""A person at the application: logs in, sends forms, asks until something has happened."""

import asyncio
import re
from dataclasses import dataclass

import httpx

PASSWORD = "correct horse"
PATIENCE = 30


@dataclass
class Person:
    client: httpx.AsyncClient

    async def log_in(self, username, password=PASSWORD):
        return await self.send("/login", username=username, password=password, page="/login")

    async def form_token(self, page):
        found = re.search(r'name="csrf_token" value="([^"]+)"', (await self.client.get(page)).text)
        return found[1] if found else ""

    async def send(self, address, *, page, files=None, **fields):
        fields = {"csrf_token": await self.form_token(page), **fields}
        return await self.client.post(address, data=fields, files=files)

    async def until(self, address, done):
        """Ask an address for JSON until its answer satisfies; fail when patience ends."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answer = (await self.client.get(address)).json()

                if done(answer):
                    return answer

                await asyncio.sleep(0.02)
