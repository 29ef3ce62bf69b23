"""Reads the calls of a wrapped loss: where its gradients are, and signs of misuse.

This file and what it imports need only torch.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sdc_ext._families import Family
from sdc_ext._graphs import Node, depends_on
from sdc_ext._words import number_of

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Misuse:
    """Warns about calls of a loss that are valid but cannot be meant, once for each kind."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def check_no_parameters(self, gradients: Any) -> None:
        """Warns if what stands in the place of gradients is a collection of parameters."""
        # A gradient with a graph is always computed from something; parameters are not.
        given = _tensors(gradients)
        if all(t.grad_fn is None for t in given) and any(t.requires_grad for t in given):
            self._warn(
                "parameters",
                Family.UNROLLED.advise(
                    "the first argument holds parameters, so their norm is penalised instead of "
                    "that of gradients",
                    "name the argument that holds the gradients by grads=, or "
                    + Family.UNROLLED.what,
                ),
            )

    def warn_of_no_graph(
        self, observed: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Warns that gradients without a graph correct nothing in a loss that has one.

        Args:
            observed: How many gradients were observed; 0 if they were passed in the call.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
        """
        named: dict[int | str, Any] = dict(enumerate(args))
        named.update(kwargs)
        with_graph = [n for n, v in named.items() if any(t.requires_grad for t in _tensors(v))]
        other = None if observed or not with_graph else with_graph[0]
        family = _family_of(observed, next(iter(named.values()), None))
        what = "observed gradients" if observed else "gradients"
        instead = (
            "" if other is None else f"pass grads={other!r} if those are the synthetic ones, or "
        )
        self._warn(
            "graph",
            family.advise(
                f"nothing is corrected, because the {what} have no graph although the loss has one",
                f"{instead}{family.what}",
            ),
        )

    def warn_of_unused(self, count: int, iteration: int) -> None:
        """Warns that observed gradients never came to a call of the loss."""
        self._warn(
            "unused",
            Family.UNROLLED.advise(
                f"{number_of(count, 'gradient', 'were')} observed in iteration {iteration} and "
                "left out, because no call of the loss followed",
                "call the loss in every iteration that observes gradients, or skip an iteration "
                "before it observes any",
            ),
            stacklevel=5,
        )

    def warn_of_no_share(self) -> None:
        """Warns that lam cannot follow from a share, since a gradient by the images is zero."""
        self._warn(
            "share",
            Family.GENERATED.advise(
                "no share can be measured, because the gradient by the images of the matching loss "
                "or of the correction is zero or not finite"
            ),
            stacklevel=5,
        )

    def _warn(self, kind: str, message: str, stacklevel: int = 4) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(message, stacklevel=stacklevel)


def find_gradients(
    function: Callable[..., Any],
    which: int | str | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Returns the gradients in a call: a tensor, or a list, tuple or dict of tensors.

    Args:
        function: The wrapped loss.
        which: The argument that holds them, by position or name; None for the first one, which
            must then be a collection.
        args: The positional arguments of the call.
        kwargs: The keyword arguments of the call.

    Raises:
        TypeError: If the argument holds no gradients.
        ValueError: If there is no such argument, or a single tensor is the first by default.
    """
    found = _argument(function, 0 if which is None else which, args, kwargs)
    if which is None and isinstance(found, Tensor):
        raise ValueError(_of_single_tensor(found))
    if not isinstance(found, (Tensor, Sequence, Mapping)) or isinstance(found, str):
        named = "the first argument" if which is None else f"the argument {which!r}"
        family = Family.of_first(found)
        raise TypeError(
            family.advise(
                f"with_sdc finds no gradients, because {named} is a {type(found).__name__}",
                f"name the argument that holds them by grads=, or {family.what}",
            )
        )
    return found


def check_scalar(loss: object) -> Tensor:
    """Returns what a wrapped loss has returned if it is a scalar tensor.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is no scalar.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(
            Family.INLINE.advise(
                f"the wrapped loss returned a {type(loss).__name__}, but with_sdc corrects scalar "
                "tensors",
                f"wrap the function that computes the loss itself, or {Family.INLINE.what}",
            )
        )
    if loss.numel() != 1:
        raise ValueError(
            Family.INLINE.advise(
                f"the wrapped loss returned the shape {tuple(loss.shape)}, but with_sdc corrects "
                "scalar tensors",
                "sum it or take its mean in the function that you wrap",
            )
        )
    return loss


def check_images(images: Sequence[Tensor], *, needed: bool) -> None:
    """Raises ValueError if no share can be measured by some images, or by none if it is needed."""
    problem = None
    if needed and not images:
        problem = (
            "share needs the images that are learnt, and finds none in the graph of the gradients"
        )
    if not all(image.requires_grad for image in images):
        problem = "images= holds a tensor that requires no gradient, so it is not what is learnt"
    if problem is not None:
        raise ValueError(Family.GENERATED.advise(problem))


def no_second_pass(error: RuntimeError) -> str:
    """Returns why no share can be measured of a loss that can be differentiated only once."""
    reason = str(error).partition("\n")[0]
    return Family.GENERATED.advise(
        f"no share can be measured, because the loss cannot be differentiated twice ({reason})",
        "pass lam= instead, or use functions that allow it, such as checkpoint(..., "
        "use_reentrant=False)",
    )


def _family_of(observed: int, first: object) -> Family:
    """Returns the family of a call, by the number observed before it and its first argument."""
    if observed > 1:
        return Family.UNROLLED
    if observed:
        return Family.of_first(first)
    return Family.FUNCTIONAL if isinstance(first, Mapping) else Family.BY_CLASS


def _of_single_tensor(found: Tensor) -> str:
    """Returns why a first argument that is one tensor is not taken for a gradient."""
    family = Family.of_first(found)
    taken = {Family.INLINE: "a loss", Family.UNROLLED: "parameters"}.get(family, "features")
    return family.advise(
        f"no gradient was observed, and the first argument is a tensor of the shape "
        f"{tuple(found.shape)}, which with_sdc takes for {taken}",
        f"pass grads=0 if it is the gradient, or {family.what}",
    )


def _tensors(value: Any) -> list[Tensor]:
    """Returns the tensors that an argument is or holds, if it is a list, tuple or dict."""
    if isinstance(value, Mapping):
        value = list(value.values())
    values = value if isinstance(value, list | tuple) else [value]
    return [v for v in values if isinstance(v, Tensor)]


def _argument(
    function: Callable[..., Any], which: int | str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Returns the argument of a call at a position of the signature, or with a name."""
    if isinstance(which, int) and 0 <= which < len(args):
        return args[which]
    if isinstance(which, str) and which in kwargs:
        return kwargs[which]
    name, given = which, {}
    try:
        signature = inspect.signature(function)
        given = signature.bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # a builtin without a signature, or a call that will fail
        pass
    else:
        named = [n for n, p in signature.parameters.items() if p.kind not in _VARIADIC]
        given = {n: value for n, value in given.items() if n in named}
        if isinstance(which, int):
            name = dict(enumerate(named)).get(which, which)
    if name in given:
        return given[name]
    family = Family.BY_CLASS if args or kwargs else Family.INLINE
    raise ValueError(
        family.advise(
            f"with_sdc finds no argument {which!r} in this call, which has {len(args)} positional "
            f"arguments and {sorted(kwargs) or 'no'} keywords",
            f"name the one that holds the gradients by grads=, or {family.what}",
        )
    )


def used_by(loss: Tensor, observed: Sequence[tuple[Tensor, set[Node]]]) -> list[Tensor]:
    """Returns the norms of the gradients that a loss depends on; all, if it depends on none.

    Gradients without a graph stay, since no loss shows whether it depends on them.
    """
    norms = [norm for norm, _ in observed]
    if len(norms) < 2:
        return norms
    flags = depends_on([loss], [nodes for _, nodes in observed])
    if not any(flags):
        return norms
    return [norm for (norm, nodes), used in zip(observed, flags, strict=True) if used or not nodes]
