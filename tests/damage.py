"""Damages files: in their bytes, and in what they describe or hold."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from sdc_ext._reading import is_plain

ABSURD: list[Any] = [None, "x", "", -1, 0, 1.5, 1e308, -1e308, 1e-320, 10**400, 2**63, 10**9, True]
ABSURD += [[], {}, [[]], "\x1b[31m", "[/x]", "\ud800", float("nan"), float("inf"), "a" * 9999]

TENSORS: list[Callable[[Tensor], Tensor]] = [
    lambda t: t.float() * float("nan"),
    lambda t: t.float() * float("inf"),
    lambda t: t.float() * 1e38,
    lambda t: (t.float().sigmoid() * 255).round(),
    lambda t: t.float() + 0.5,
    lambda t: -t.float(),
    lambda t: t.long() + 10**9,
    lambda t: t - 1,
    lambda t: t[:0],
    lambda t: t.flatten(),
    lambda t: t[None],
    lambda t: torch.cat([t, t]),
    lambda t: t.transpose(0, -1),
    lambda t: t.expand(-1, 3, -1, -1),
    lambda t: torch.tensor(7),
    lambda t: torch.zeros(10, 1, 0, 0),
    lambda t: torch.zeros(1).expand(10**9),
    lambda t: torch.zeros(1).expand(10, 1, 10**4, 10**4),
    lambda t: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    lambda t: t.to_sparse(),
    lambda t: t.to("meta"),
    lambda t: t.to(torch.float8_e4m3fn),
    lambda t: t.to(torch.complex64),
    lambda t: t.to(torch.bfloat16),
    lambda t: t.to(torch.uint8),
    lambda t: t.bool(),
    lambda t: t.double(),
]

# The place of a value in nested containers.
Place = tuple[Any, ...]


def damaged(path: Path, draw: random.Random) -> bytes:
    """The content of a file, damaged in a way that suits its format."""
    content = path.read_bytes()
    inner = {".json": _json, ".csv": _text, ".txt": _text, ".yaml": _text}
    if draw.random() < 0.3:
        return _bytes(content, draw)
    if path.suffix == ".pt":
        return _saved(path, draw)
    if path.suffix == ".safetensors":
        return _safetensors(path, draw)
    return inner.get(path.suffix, _bytes)(content, draw)


def _bytes(content: bytes, draw: random.Random) -> bytes:
    start, length = draw.randrange(len(content)), draw.choice([1, 1, 8, 300])
    flipped = bytes([content[start] ^ 1 << draw.randrange(8)])
    return draw.choice(
        [
            content[:start],
            content[:start] + flipped + content[start + 1 :],
            content[:start] + bytes(length) + content[start + length :],
            content[:start] + draw.randbytes(length) + content[start:],
            content + content,
            b"\xff\xfe" + content,
            b"[" * 100_000,
            draw.randbytes(64),
            b"",
        ]
    )


def _text(content: bytes, draw: random.Random) -> bytes:
    lines = content.decode().splitlines(keepends=True)
    words = re.split(r"([,\t:\n ])", lines[number := draw.randrange(len(lines))])
    words[draw.randrange(len(words))] = str(draw.choice([*ABSURD, "../x", '"', "\x00", "1e999"]))
    lines[number] = "".join(words)
    return "".join(lines).encode(errors="replace")


def _json(content: bytes, draw: random.Random) -> bytes:
    tree = json.loads(content)
    text = json.dumps(_changed(tree, draw, lambda old: draw.choice([*ABSURD, _nested(900), ...])))
    return text.replace("Infinity", draw.choice(["Infinity", "1e999"])).encode()


def _saved(path: Path, draw: random.Random) -> bytes:
    content = torch.load(path, weights_only=False)
    buffer = io.BytesIO()
    changed = _changed(content, draw, lambda old: _other(old, draw))
    torch.save(changed, buffer, _use_new_zipfile_serialization=draw.random() < 0.9)
    return buffer.getvalue()


def _safetensors(path: Path, draw: random.Random) -> bytes:
    content = load_file(path)
    name = draw.choice(list(content))
    changed = _tensor(content[name], draw)
    if changed.numel() < 10**6:
        content[name] = changed
    with safe_open(path, "pt") as file:
        notes = dict(file.metadata() or {})
    if draw.random() < 0.3:
        notes = {key: draw.choice(["nan", "x", "", "-1", "1e999"]) for key in notes}
    laid_out = {key: t.contiguous() for key, t in content.items() if _can_be_stored(t)}
    return to_safetensors(laid_out, notes or None)


def _can_be_stored(tensor: Tensor) -> bool:
    return is_plain(tensor) or tensor.dtype in (torch.complex64, torch.float8_e4m3fn)


def _other(old: object, draw: random.Random) -> object:
    if isinstance(old, Tensor) and draw.random() < 0.8:
        return _tensor(old, draw)
    if isinstance(old, str) and old.startswith("{"):
        return _json(old.encode(), draw).decode()
    return draw.choice([*ABSURD, torch.zeros(2), b"x", 1j, ...])


def _tensor(old: Tensor, draw: random.Random) -> Tensor:
    for change in draw.sample(TENSORS, len(TENSORS)):
        try:
            return change(old).detach()
        except (
            RuntimeError,
            IndexError,
            NotImplementedError,
        ):  # not every tensor can be changed so
            continue
    return old


def _changed(tree: Any, draw: random.Random, other: Callable[[Any], Any]) -> Any:
    """A tree with one value replaced, or removed where ``other`` returns an ellipsis."""
    place = draw.choice(list(_places(tree)))
    holder = tree
    for key in place[:-1]:
        holder = holder[key]
    if not place or isinstance(holder, tuple):
        return draw.choice([None, [], {}, 1.5, "x", [tree]])
    value = other(holder[place[-1]])
    if value is ...:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return tree


def _places(tree: Any, place: Place = ()) -> Iterator[Place]:
    yield place
    if isinstance(tree, (dict, list, tuple)):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from _places(tree[key], (*place, key))


def _nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found
