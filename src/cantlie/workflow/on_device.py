"""Let everything that a request computes be computed on the device that it names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from cantlie.dose.device import Device, computing_on

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


class _Request(Protocol):
    @property
    def device(self) -> Device: ...


Request = TypeVar("Request", bound=_Request)


def on_requested_device(
    work: Callable[Concatenate[Request, Rest], Result],
) -> Callable[Concatenate[Request, Rest], Result]:
    """Return work on a request that computes dose on ``request.device``.

    The work raises a ``DoseError`` before it starts if the device is ``cuda`` and no GPU can be used.
    """

    def placed(request: Request, *rest: Rest.args, **named: Rest.kwargs) -> Result:
        with computing_on(request.device):
            return work(request, *rest, **named)

    return cast(Callable[Concatenate[Request, Rest], Result], functools.update_wrapper(placed, work))
