"""The pages and their addresses, as one ASGI app."""

from fastapi import FastAPI
from fastapi.requests import Request
from nicegui import ui

from dormouse import protocol
from dormouse.errors import ConfigError
from dormouse_host.web.device_page import DevicePage
from dormouse_host.web.fleet_page import FleetPage
from dormouse_host.web.frame import DARK, Frame
from dormouse_host.web.live import Hub
from dormouse_host.web.other_pages import AlertsPage, GroupsPage, RolloutsPage

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2b6cb0"/>'
    '<path d="M21 6a11 11 0 1 0 5 14A9 9 0 0 1 21 6z" fill="#fff"/></svg>'
)


def application(hub: Hub, *, guarded: bool) -> FastAPI:
    """The pages of this hub; once in a process."""

    def frame(request: Request, here: str, title: str) -> Frame:
        return Frame(hub, here, title, request.cookies.get(DARK, ""), guarded=guarded)

    @ui.page("/")
    def fleet(request: Request) -> None:
        FleetPage(frame(request, "/", "Fleet"))

    @ui.page("/device/{device}")
    def device(request: Request, device: str) -> None:
        try:
            name = protocol.check_device_id(device)
        except ConfigError:
            name = "no such device"
        DevicePage(frame(request, "", name), name)

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
