"""Where a server may listen."""

from __future__ import annotations

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.exposure import check_exposure, is_loopback
from dorkos.setting_groups.server import ServerSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_this_machine_alone_needs_no_names(host: str) -> None:
    """Nobody else reaches it."""
    assert is_loopback(host)
    check_exposure(ServerSettings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example"])
def test_beyond_this_machine_the_names_must_be_said(host: str) -> None:
    """Else any name that leads here would be believed, or none would work."""
    with pytest.raises(DorkError) as refusal:
        check_exposure(ServerSettings(host=host))
    assert refusal.value.code is ErrorCode.EXPOSURE_REFUSED
    check_exposure(ServerSettings.model_validate({"host": host, "allowedHosts": ["dork.example"]}))
