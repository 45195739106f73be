"""What a map tells of itself."""
from __future__ import annotations
import json
from typing import Any

class Report:
    def __init__(self, data: str) -> None:
        self._json = data
        self.data: dict[str, Any] = json.loads(data)
    def to_json(self) -> str:
        return self._json
    def __str__(self) -> str:
        return json.dumps(self.data, indent=1)
