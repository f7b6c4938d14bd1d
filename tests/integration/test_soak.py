"""The soak in short: one round of all faults. `python -m bench.soak` takes ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak import STYLES, Pace, Soak, soak

SHORT = Pace(total_s=0.0, settle_s=0.2, fault_s=0.3, between_s=0.2, files_s=0.4)


@pytest.mark.slow
@pytest.mark.fault
def test_ten_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    done = soak(tmp_path, SHORT, seed=7)
    assert set(done.told) >= {*STYLES, *done.faults()}
    assert len(done.sent) > 10


@pytest.mark.slow
@pytest.mark.fault
def test_a_soak_notices_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Soak.check

    def lose(it: Soak) -> None:
        next(it.config.archive.rglob("*.csv")).unlink()
        check(it)

    monkeypatch.setattr(Soak, "check", lose)
    monkeypatch.setattr(Soak, "disturb", lambda it: it.over.wait(3.0))
    with pytest.raises(AssertionError):
        soak(tmp_path, SHORT, seed=7)
