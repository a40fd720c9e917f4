"""What happens, one line an event: JSON for machines, text for a terminal; to standard error.

{"time": "2026-11-24T03:12:09.120Z", "level": "info", "program": "associator", "event": "commit",
 "visit": 7, "snap": 0, "detector": 42, "sources": 51}
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from gpudiff.model.errors import GpudiffError
from gpudiff.model.frame import FrameId

NAME = "gpudiff"
INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


def start(program: str, kind: str) -> None:
    """Let the events of this process out.  kind : json | text"""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(program) if kind == "json" else Text(program))
    logger = logging.getLogger(NAME)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def say(event: str, frame: FrameId | None = None, level: int = INFO, **fields: Any) -> None:
    """One event, with the frame that it is about."""
    who = {"visit": frame.visit, "snap": frame.snap, "detector": frame.detector} if frame else {}
    logging.getLogger(NAME).log(level, event, extra={"fields": who | fields})


def warn(event: str, error: GpudiffError, frame: FrameId | None = None, **fields: Any) -> None:
    """One event that went wrong, with the error's name and reason."""
    say(event, frame, WARNING, error=error.name, reason=str(error), **fields)


class Json(logging.Formatter):
    """One JSON object a line: time (UTC), level, program, event, and what the event carries."""

    def __init__(self, program: str):
        super().__init__()
        self.program = program

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Everything that a line says."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"time": moment.replace("+00:00", "Z"), "level": record.levelname.lower()}
        return head | {"program": self.program, "event": record.getMessage()} | getattr(record, "fields", {})

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.fields(record), default=str)


class Text(Json):
    """03:12:09.120 info associator commit visit=7 snap=0 detector=42 sources=51"""

    def format(self, record: logging.LogRecord) -> str:
        said = self.fields(record)
        head = [said.pop("time")[11:-1], *(said.pop(key) for key in ("level", "program", "event"))]
        return " ".join([*head, *(f"{key}={' '.join(str(value).split())}" for key, value in said.items())])
