"""`python -m ordertrail` is the command `ordertrail`."""

from __future__ import annotations

from ordertrail.cli import main

if __name__ == "__main__":
    main()
