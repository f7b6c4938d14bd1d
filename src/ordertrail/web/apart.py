"""Work of seconds for one page, in a process of its own: it has its own memory, and can be stopped.

One at a time, so that readers who ask for it do not slow down passes.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError, PassRunningError
from ordertrail.look import document
from ordertrail.look.rows import Json, Row
from ordertrail.model import Correction, CorrectionKind

PREVIEW_S = 15.0
"""Longest time that a page waits for what `undo` would change, in seconds."""

WAIT_S = 1.0
"""How long to wait for another one, in seconds."""

_Result = TypeVar("_Result")
_one = threading.Lock()


class Plan(Struct, frozen=True):
    """What `undo` would change.

    Attributes:
        document: As `ordertrail undo --plan --json` tells it; None when it is not known.
        keys: Keys touched, restored, kept and removed.
        changes: The first shipments that would change: key, change, before and after.
        trouble: Why it is not known; "" when it is.
    """

    document: Json
    keys: dict[str, int]
    changes: tuple[tuple[Row, str, Row | None, Row | None], ...] = ()
    trouble: str = ""


def previewed(config: Config, delivery_id: str, limit_s: float) -> Plan:
    """What `undo` of a delivery would change, by the code of `ordertrail undo --plan`.

    Args:
        config: Of the pipeline.
        delivery_id: The delivery.
        limit_s: Longest time, in seconds.
    """
    try:
        return apart(_preview, (config, delivery_id), limit_s)
    except TimeoutError:
        return Plan(None, {}, trouble=f"it takes longer than {limit_s:g} s; the command tells it in full")
    except OrdertrailError as error:
        return Plan(None, {}, trouble=f"{error.message}. {error.hint}")


def apart(call: Callable[..., _Result], arguments: tuple[Any, ...], limit_s: float) -> _Result:
    """Call a function in a process of its own.

    Args:
        call: A function of a module; what it returns or raises must be able to be pickled.
        arguments: Its arguments; likewise.
        limit_s: Longest time, in seconds.

    Raises:
        TimeoutError: It took longer, and was stopped.
        PassRunningError: Another one is at work.
    """
    if not _one.acquire(timeout=WAIT_S):
        raise PassRunningError("another reader's question of this kind is at work", hint="Try again in a moment")
    try:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, call, arguments))
        process.start()
        theirs.close()
        try:
            if not ours.poll(limit_s):
                raise TimeoutError
            done, result = ours.recv()
        except EOFError as error:
            raise TimeoutError from error
        finally:
            process.kill()
            process.join()
            process.close()
            ours.close()
    finally:
        _one.release()
    if not done:
        raise result
    return result  # type: ignore[no-any-return]


def end_with_parent() -> None:
    """End this process when the one that started it is gone."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(pipe: Connection, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    os.nice(5)
    try:
        pipe.send((True, call(*arguments)))
    except Exception as error:  # noqa: BLE001 - raised again in the process that asked
        pipe.send((False, error))


def _preview(config: Config, delivery_id: str) -> Plan:
    from ordertrail.mend.corrections import Wanted
    from ordertrail.mend.preview import preview

    found = preview(config, Wanted(Correction(CorrectionKind.UNDO, (delivery_id,), "", "")))
    done = found.correction
    told = {
        **document.run_report(found.report),  # type: ignore[dict-item]
        "changes": [
            {
                "key": document.row(one.key),
                "change": one.change,
                "before": None if one.before is None else document.row(one.before),
                "after": None if one.after is None else document.row(one.after),
            }
            for one in found.changes
        ],
    }
    keys = {"touched": done.touched, "restored": done.restored, "kept": done.kept, "removed": done.removed}
    return Plan(told, keys, tuple((one.key, one.change, one.before, one.after) for one in found.changes))
