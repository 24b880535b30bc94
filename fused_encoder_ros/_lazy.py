"""Names that a package offers and that are imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: `places` says by module what it offers, names with spaces between."""
    modules = {name: module for module, names in places.items() for name in names.split()}

    def getattr_(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(importlib.import_module(modules[name]), name)

    return getattr_
