"""An admin imports a file, in a real browser."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from browser import chromium, find_chromium
from visitors import PASSWORD

SAMPLE = Path(__file__).parents[1] / "data" / "leads-10000.csv"

pytestmark = pytest.mark.skipif(not find_chromium(), reason="no Chromium here; install one or set CHROMIUM")


@asynccontextmanager
async def served(app):
    """The application at an address of this machine."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve())

    while not server.started:
        await asyncio.sleep(0.01)

    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_admin_imports_the_sample_and_sees_what_came_of_it(app, office, let_in, tmp_path):
    username = let_in(office.admin)

    async with served(app) as address:
        await asyncio.to_thread(import_sample, address, username, office, tmp_path)

    dealt = [lead.telecaller_id for lead in office.leads()]
    assert dealt[:4] == [office.telecallers[1], office.telecallers[0]] * 2
    assert len(dealt) == 9_700


def import_sample(address, username, office, tmp_path):
    with chromium(tmp_path / "profile") as page:
        page.go(f"{address}/")
        page.type("input[name=username]", username)
        page.type("input[name=password]", PASSWORD)
        page.click("form button.primary")
        page.wait("location.pathname === '/imports'")
        page.click("a[href='/imports/new']")
        page.wait("location.pathname === '/imports/new'")
        page.click(f"a[href$='{office.branch}']")
        page.wait("document.querySelector('input[name=telecaller_ids]')")
        page.wait("!document.querySelector('[data-everybody]').hidden")
        page.click(f"input[value='{office.telecallers[1]}']")
        page.click(f"input[value='{office.telecallers[0]}']")
        turns = "[...document.querySelectorAll('label.chosen')].map(one => one.querySelector('.turn').textContent)"
        assert sorted(page.js(turns)) == ["1", "2"]
        assert page.js("document.querySelector('[data-order]').value") == ",".join(office.telecallers[1::-1])
        page.choose_file("input[type=file]", SAMPLE)
        page.click("form[action='/imports'] button.primary")
        page.wait("document.querySelector('[data-successful]')")
        assert page.js("document.querySelector('[data-successful]').textContent") == "9,700"
        assert page.js("document.querySelector('[data-failed]').textContent") == "300"
        assert "The same phone number stands earlier in this file." in page.text()

        for width, dark in ((390, True), (1200, False)):
            look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            page.call("Emulation.setEmulatedMedia", features=look)
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            page.wait(f"innerWidth === {width}")
            assert page.js("document.documentElement.scrollWidth") <= width
            page.screenshot(tmp_path / f"result-{width}.png")

        assert page.complaints == []
