"""A server started on a home of DorkOS for Node: all of it is there, and nothing of it stirs."""

from __future__ import annotations

from pathlib import Path

from tests.db.legacy.adopt_kit import brought_adoption, copy_of
from tests.server_process import ServerProcess


def test_a_start_takes_the_home_over_and_holds_the_fleet(tmp_path: Path) -> None:
    """Every list answers with what came; the fleet is on hold; the next start finds its own database."""
    home = copy_of("home-upgraded-by-server", tmp_path)
    # Of the old settings only these would hinder a test: the port, and a boundary that is not there.
    (home / "config.json").write_text('{"scheduler": {"timezone": "Europe/Berlin"}}', "utf-8")
    after = brought_adoption("home-upgraded-by-server").report.after
    with ServerProcess(home, boundary=tmp_path) as server:
        assert any("Brought over from DorkOS for Node: " in line for line in server.output)
        with server.client() as client:
            assert client.get("/api/system/fleet").json()["mode"] == "hold"
            schedules = client.get("/api/pulse/schedules").json()
            assert len(schedules) == after["pulse_schedules"]
            for schedule in schedules:
                assert client.get(f"/api/pulse/schedules/{schedule['id']}").status_code == 200
            runs = client.get("/api/pulse/runs", params={"limit": 500}).json()
            assert len(runs) == after["pulse_runs"]
            for run in runs:
                assert client.get(f"/api/pulse/runs/{run['id']}").status_code == 200
            assert {run["status"] for run in runs} <= {"completed", "failed", "cancelled"}
            agents = client.get("/api/mesh/agents", params={"limit": 100}).json()["agents"]
            assert len(agents) == after["agents"]
            assert len(client.get("/api/mesh/denied").json()["denied"]) == after["agent_denials"]
    with ServerProcess(home, boundary=tmp_path) as server:
        # Only the hold still says where it comes from.
        assert not any("Brought over from DorkOS for Node: " in line for line in server.output)
