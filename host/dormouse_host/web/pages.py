"""The pages and their addresses, as one ASGI app."""

import asyncio

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import Response
from nicegui import ui

from dormouse_host.web.device_page import DevicePage
from dormouse_host.web.fleet_page import FleetPage
from dormouse_host.web.frame import DARK, Frame
from dormouse_host.web.live import Hub
from dormouse_host.web.other_pages import AlertsPage, GroupsPage, RolloutsPage

_NO_DEVICE = "No such device"
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2b6cb0"/>'
    '<path d="M21 6a11 11 0 1 0 5 14A9 9 0 0 1 21 6z" fill="#fff"/></svg>'
)


def no_device(frame: Frame) -> None:
    """What is shown for an id that is no device's."""
    with frame.content(), ui.element("div").classes("card"):
        with ui.element("h1"):
            ui.label(_NO_DEVICE)
        ui.label("Nobody has registered this id, or it was removed.")


def application(hub: Hub, *, guarded: bool) -> FastAPI:
    """The pages of this hub; once in a process."""

    def frame(request: Request, here: str, title: str) -> Frame:
        return Frame(hub, here, title, request.cookies.get(DARK, ""), guarded=guarded)

    @ui.page("/")
    def fleet(request: Request) -> None:
        FleetPage(frame(request, "/", "Fleet"))

    @ui.page("/device/{device}")
    async def device(request: Request, device: str) -> Response | None:
        if not await asyncio.to_thread(hub.knows, device):
            no_device(frame(request, "", _NO_DEVICE))
            return ui.context.client.build_response(request, 404)
        DevicePage(frame(request, "", device), device)
        return None

    @ui.page("/alerts")
    def alerts(request: Request) -> None:
        AlertsPage(frame(request, "/alerts", "Alerts"))

    @ui.page("/groups")
    def groups(request: Request) -> None:
        GroupsPage(frame(request, "/groups", "Groups"))

    @ui.page("/rollouts")
    def rollouts(request: Request) -> None:
        RolloutsPage(frame(request, "/rollouts", "Rollouts"))

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        app,
        title="Dormouse",
        favicon=_ICON,
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=10.0,
        binding_refresh_interval=None,
    )
    return app
