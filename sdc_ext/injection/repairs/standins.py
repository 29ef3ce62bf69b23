"""Takes the place of loggers and optional packages that are not installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sdc_ext.injection.names import is_installed
from sdc_ext.injection.patches import Patches
from sdc_ext.injection.repairs.finder import make_importable
from sdc_ext.injection.repairs.repair import Place, Repair, Say
from sdc_ext.injection.sources import Project

_LOGGERS = ("aim", "clearml", "comet_ml", "mlflow", "neptune", "swanlab", "tensorboardX", "visdom")


class Silent:
    """An object that accepts every call and every attribute, and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Silent:
        """Returns itself, whatever it is called with."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Silent()

    def __getitem__(self, _: Any) -> Silent:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class SilentModule(ModuleType):
    """A package whose every name is a class of silent objects, at any depth."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Silent


class Settings(dict[str, Any]):
    """A dictionary whose items are attributes, too, as wandb's ``config`` and ``summary``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    @property
    def _items(self) -> dict[str, Any]:
        """The items, where MTT's script and its descendants read their settings back."""
        return dict(self)

    def update(self, *given: Any, **more: Any) -> None:
        """Takes the items of a dictionary, or the attributes of a namespace."""
        more.pop("allow_val_change", None)
        for values in given:
            super().update(values if isinstance(values, dict) else vars(values or Silent()))
        super().update(more)

    setdefaults = update

    def as_dict(self) -> dict[str, Any]:
        """Returns the items."""
        return dict(self)


class _Run(Silent):
    """What ``wandb.init`` returns."""

    def __init__(self, name: str | None, config: Settings) -> None:
        self.name = name or f"offline-{time.strftime('%Y%m%d-%H%M%S')}"
        self.id, self.project, self.entity, self.group = self.name, "", "", ""
        self.dir, self.url, self.step = os.getcwd(), "", 0
        self.config, self.summary = config, Settings()


class _Table(Silent):
    """A table, whose rows a script may read back."""

    def __init__(self, columns: Any = (), data: Any = (), **_: Any) -> None:
        self.columns, self.data = list(columns), [list(row) for row in data or ()]

    def add_data(self, *row: Any) -> None:
        """Adds a row."""
        self.data.append(list(row))


class Wandb(SilentModule):
    """The module ``wandb`` without its server: it keeps settings and forgets what is logged."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.run: _Run | None = None
        self.config, self.summary = Settings(), Settings()
        self.Table = _Table

    def init(self, *_: Any, config: Any = None, name: str | None = None, **__: Any) -> _Run:
        """Begins a run; a second call begins another."""
        self.config = Settings()
        self.config.update(config)
        self.run = _Run(name, self.config)
        self.summary = self.run.summary
        return self.run

    def finish(self, *_: Any, **__: Any) -> None:
        """Ends the run."""
        self.run = None

    def __getattr__(self, name: str) -> Any:
        # Classes such as Image are upper case; whatever else there is, is a function or a module.
        return super().__getattr__(name) if name[:1].isupper() else getattr(Silent(), name)


class KMeans:
    """The class of ``fast_pytorch_kmeans``, computed by scikit-learn.

    Attributes:
        centroids: The centres of the clusters.
    """

    def __init__(
        self, n_clusters: int, max_iter: int = 100, tol: float = 1e-4, *_: Any, **options: Any
    ) -> None:
        self.n_clusters, self.max_iter, self.tol = n_clusters, max_iter, tol
        self.mode = options.get("mode", "euclidean")
        self.centroids: Tensor | None = None

    def fit_predict(self, points: Tensor, centroids: Tensor | None = None) -> Tensor:
        """Returns the cluster of every point."""
        labels, self.centroids = _clusters(
            points, self.n_clusters, self.mode, self.tol, self.max_iter, centroids
        )
        return labels

    def fit(self, points: Tensor, centroids: Tensor | None = None) -> None:
        """Computes the centres."""
        self.fit_predict(points, centroids)

    def predict(self, points: Tensor) -> Tensor:
        """Returns the nearest centre of every point."""
        assert self.centroids is not None
        return _nearest(points, self.centroids, self.mode)


def kmeans(
    X: Tensor,
    num_clusters: int,
    distance: str = "euclidean",
    cluster_centers: Any = (),
    tol: float = 1e-4,
    tqdm_flag: bool = True,
    iter_limit: int = 0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """The function of ``kmeans_pytorch``, computed by scikit-learn."""
    start = cluster_centers if isinstance(cluster_centers, Tensor) else None
    labels, centers = _clusters(X, num_clusters, distance, tol, iter_limit or 300, start)
    return labels.cpu(), centers.cpu()


def kmeans_predict(
    X: Tensor, cluster_centers: Tensor, distance: str = "euclidean", *_: Any, **__: Any
) -> Tensor:
    """The function of ``kmeans_pytorch``: the nearest centre of every point."""
    return _nearest(X, cluster_centers.to(X), distance).cpu()


def _clusters(
    points: Tensor, count: int, distance: str, tol: float, iterations: int, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    from sklearn.cluster import KMeans as Reference

    kept = points.detach().flatten(1)
    if distance == "cosine":
        kept = torch.nn.functional.normalize(kept)
    init: Any = "k-means++" if start is None else start.detach().cpu().numpy()
    fit = Reference(count, init=init, n_init=1, max_iter=iterations, tol=tol)
    labels = torch.from_numpy(fit.fit_predict(kept.cpu().double().numpy())).long()
    return labels.to(points.device), torch.from_numpy(fit.cluster_centers_).to(kept)


def _nearest(points: Tensor, centers: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        points, centers = (torch.nn.functional.normalize(t) for t in (points, centers))
    return torch.cdist(points, centers).argmin(1)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def _imports_of(project: Project, name: str) -> list[Place]:
    """Returns the places that import a module without expecting that it may be missing."""
    return [
        Place(source.name, found.line, f"import {name}")
        for source, found in project.foreign
        if not found.guarded
        and any(f"{n}.".startswith(f"{name}.") for n in (found.name, *found.inner))
    ]


def _stand_in(
    package: str, cause: str, remedy: str, make: Callable[[str], ModuleType], module: str = ""
) -> Repair:
    """Returns the repair for a package that is missing.

    Args:
        package: The package that may be missing.
        cause: Why the import fails.
        remedy: What takes its place.
        make: Returns the module with a name that takes its place.
        module: The module that the script imports, if it is not the package itself.
    """
    root = module or package

    def find(project: Project) -> list[Place]:
        missing = not is_installed(package) or (package == "wandb" and _is_off(project))
        return _imports_of(project, root) if missing else []

    def install(patches: Patches, places: Sequence[Place], say: Say) -> None:
        def said(name: str) -> ModuleType:
            say()
            return make(name) if name == root else SilentModule(name)

        make_importable(root, said, patches)

    return Repair(package, cause, remedy, find, install)


def _is_off(project: Project) -> bool:
    """Returns whether wandb is switched off, or has no name for the run that a script asks for."""
    mode = os.environ.get("WANDB_MODE", "").lower()
    asks = any("wandb.run.name" in text for text in project.texts.values())
    return mode == "disabled" or (mode in ("offline", "dryrun") and asks)


_FORGETS = "a stand-in logs nothing"
_CLUSTERS = "scikit-learn computes the clusters"
REPAIRS = (
    _stand_in("wandb", "wandb is missing, disabled, or offline without run names", _FORGETS, Wandb),
    _stand_in(
        "tensorboard",
        "tensorboard is not installed",
        _FORGETS,
        SilentModule,
        "torch.utils.tensorboard",
    ),
    *(_stand_in(name, f"{name} is not installed", _FORGETS, SilentModule) for name in _LOGGERS),
    _stand_in(
        "kmeans_pytorch",
        "kmeans_pytorch is not installed",
        _CLUSTERS,
        lambda name: _module(name, kmeans=kmeans, kmeans_predict=kmeans_predict),
    ),
    _stand_in(
        "fast_pytorch_kmeans",
        "fast_pytorch_kmeans is not installed",
        _CLUSTERS,
        lambda name: _module(name, KMeans=KMeans),
    ),
)

STOOD_IN = {repair.name for repair in REPAIRS}
"""The packages that have a stand-in."""
