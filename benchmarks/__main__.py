"""`make bench`: measure, and print each number beside its promise."""

from __future__ import annotations

from benchmarks import discovery, kit, reading, schedules, start


def main() -> None:
    """Run every benchmark."""
    for row in (*start.rows(), *kit.rows(), *discovery.rows(), *schedules.rows(), *reading.rows()):
        print(row)


if __name__ == "__main__":
    main()
