"""Observes what a loop asks of autograd, by whatever function it does so.

``torch.autograd.grad``, ``torch.autograd.backward`` and ``Tensor.backward`` all end in one
function that runs autograd's engine. It is replaced, so that names which a module has bound before
are observed, too. ``torch.func.grad`` computes on tensors that are valid only inside it, and is
observed at its end.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._functorch import eager_transforms
from torch.utils._pytree import tree_leaves

from sdc_ext._graphs import Node, are_wrapped, nodes_of
from sdc_ext.errors import InjectionError
from sdc_ext.injection.corrections import Correction
from sdc_ext.injection.measures import BackwardPass
from sdc_ext.injection.patches import Patches

_TORCH = str(Path(torch.__file__).parent)
_SCALE = "sdc_ext: loss scale"  # in the metadata of autograd's nodes


class Interception:
    """Passes on what a loop asks of autograd to a correction.

    Args:
        find: Returns the correction, given the frame that asks for gradients; the frame is None
            where no gradient is asked for.
    """

    def __init__(self, find: Callable[[FrameType | None], Correction | None]) -> None:
        self._find = find
        self._scales = False  # whether the loop has scaled a loss
        self._busy = False
        self._captured_at = ""

    def install(self, patches: Patches) -> None:
        """Replaces the functions until the patches are undone."""
        patches.wrap(torch.autograd, "_engine_run_backward", self._watch_engine)
        # Inside a compiled function, what is observed runs as it would without the compiler.
        patches.wrap(torch.autograd, "_engine_run_backward", torch.compiler.disable)
        patches.wrap(eager_transforms, "grad_and_value_impl", self._watch_function)
        patches.wrap(eager_transforms, "grad_and_value_impl", torch.compiler.disable)
        patches.wrap(torch.amp.GradScaler, "scale", self._watch_scale)

    def _watch_engine(self, original: Callable[..., Any]) -> Callable[..., Any]:
        run_engine = self._explaining(original)

        @functools.wraps(original)
        def run(
            roots: Any,
            seeds: Any,
            keep: Any,
            create_graph: Any,
            inputs: Any,
            *rest: Any,
            **how: Any,
        ) -> Any:
            seen = _tensors(roots)
            if self._busy or not seen or are_wrapped([*seen, *_tensors(seeds), *_tensors(inputs)]):
                return run_engine(roots, seeds, keep, create_graph, inputs, *rest, **how)
            accumulates = how.get("accumulate_grad", False)
            asks = create_graph or not accumulates
            caller = _caller() if asks else None
            correction = self._find(caller)
            if correction is None:
                return run_engine(roots, seeds, keep, create_graph, inputs, *rest, **how)
            scale = _scale_of(seen) if self._scales else None
            wanted = _tensors(inputs)
            asked = BackwardPass(seen, list(seeds), wanted or None, scale)
            if not create_graph:
                with torch.enable_grad():  # a backward pass may be asked for without it
                    term = self._term(correction, asked, accumulates)
                    if term is not None:
                        roots = (*roots, asked.scaled(term))
                        seeds = (*seeds, torch.ones_like(roots[-1]))
            targets = asked.targets if create_graph else []
            result = run_engine(roots, seeds, keep, create_graph, inputs, *rest, **how)
            if create_graph:
                self._captured_at = _line(caller)
                gradients = [t.grad for t in targets] if accumulates else list(result)
                self._capture(correction, asked, targets, gradients, used_only=accumulates)
            return result

        return run

    def _explaining(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that names the line where torch refuses a compiled function."""

        def run(*args: Any, **how: Any) -> Any:
            try:
                return original(*args, **how)
            except RuntimeError as error:
                if "support double backward" not in str(error) or not self._captured_at:
                    raise
                raise InjectionError(
                    f"{self._captured_at} asks for the gradient of a compiled function with "
                    "create_graph=True, which torch cannot differentiate again: leave "
                    "torch.compile out there, or pass it backend='eager'"
                ) from error

        return run

    def _watch_function(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def grad_and_value(
            func: Any, argnums: Any, has_aux: bool, args: Any, kwargs: Any
        ) -> tuple[Any, Any]:
            gradients, value = original(func, argnums, has_aux, args, kwargs)
            numbers = (argnums,) if isinstance(argnums, int) else argnums
            by = _tensors(tree_leaves([args[number] for number in numbers]))
            root = value[0] if has_aux else value
            if not are_wrapped([*by, root]):
                correction = self._find(_caller())
                if correction is not None:
                    asked = BackwardPass([root], None, by, None)
                    self._capture(correction, asked, by, tree_leaves(gradients))
            return gradients, value

        return grad_and_value

    def _watch_scale(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Remembers the factor of each scaled loss, since the correction needs the same one."""

        @functools.wraps(original)
        def scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            kept = outputs if isinstance(outputs, (Tensor, list, tuple)) else tuple(outputs)
            scaled = original(scaler, kept)
            for tensor, result in zip(_tensors(kept), _tensors(scaled), strict=True):
                node: Node = result.grad_fn
                if node is not None:
                    node.metadata[_SCALE] = original(scaler, torch.ones_like(tensor.detach()))
                    self._scales = True
            return scaled

        return scale

    def _term(
        self, correction: Correction, asked: BackwardPass, accumulates: bool
    ) -> Tensor | None:
        self._busy = True
        try:
            if accumulates:
                return correction.backward(asked)
            return correction.plain_gradient(asked, asked.targets)
        finally:
            self._busy = False

    def _capture(
        self,
        correction: Correction,
        asked: BackwardPass,
        by: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        *,
        used_only: bool = False,
    ) -> None:
        """Passes on gradients with a graph."""
        pairs = [
            (tensor, gradient)
            for tensor, gradient in zip(by, gradients, strict=True)
            if gradient is not None and (gradient.grad_fn is not None or not used_only)
        ]
        if any(gradient.grad_fn is not None for _, gradient in pairs):
            tensors, found = ([*part] for part in zip(*pairs, strict=True))
            correction.capture(asked, tensors, found, used_only=used_only)


def _caller() -> FrameType | None:
    """Returns the frame outside torch that called it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    return frame


def _scale_of(roots: Sequence[Tensor]) -> Tensor | None:
    """Returns the factor of mixed precision in what is differentiated; None for 1."""
    nodes = nodes_of(roots)
    return next((node.metadata[_SCALE] for node in nodes if _SCALE in node.metadata), None)


def _line(frame: FrameType | None) -> str:
    """Returns the line that a frame is in, in words."""
    return f"line {frame.f_lineno} of {Path(frame.f_code.co_filename).name}" if frame else ""


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [v for v in values or () if isinstance(v, Tensor)]
