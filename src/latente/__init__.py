"""latente: learn a latent space from any data, then use it.

    import latente as lt
    vae = lt.Autoencoder("vae", dim=8, random_state=0).fit(df)
    z = vae.transform(df)
    vae.save("plans.safetensors"); vae = lt.load("plans.safetensors")

Names are imported when they are first used: `import latente` costs milliseconds and loads no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Autoencoder": "estimator",
    "load": "estimator",
    "Imputer": "uses.imputer",
    "AnomalyDetector": "uses.detector",
    "LatentClassifier": "uses.supervised",
    "LatentRegressor": "uses.supervised",
    "spread_labels": "uses.spreading",
    "TabularReport": "uses.tabular_report",
    "tabular_report": "uses.tabular_report",
    "Landscape": "uses.maps",
    "Spec": "model.spec",
    "Train": "model.spec",
    "recipe": "model.spec",
    "recipes": "model.spec",
    "Pictures": "kinds.pictures",
    "Counted": "kinds.counted",
    "Texts": "kinds.texts",
    "Tune": "kinds.tunes",
    "Tunes": "kinds.tunes",
    "read": "kinds.reading",
    "write": "kinds.writing",
    "DataWarning": "errors",
    "LatenteError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "ModelFileError": "errors",
    "NotFittedError": "errors",
    "ResourceError": "errors",
}
_VERBS = [
    *(
        "fit",
        "resume",
        "info",
        "map",
        "encode",
        "decode",
        "reconstruct",
        "denoise",
        "impute",
        "sample",
        "interpolate",
        "finetune",
        "predict",
        "recommend",
        "differential",
        "neighbours",
        "vector",
        "apply",
        "traverse",
        "score",
        "detect",
    ),
    *("evaluate", "export", "compress", "decompress", "demo", "doctor"),
]
__all__ = list(_HOMES) + _VERBS  # noqa: PLE0605 - made from the tables above, so that a name stands once


def __getattr__(name: str) -> Any:
    if name == "tabular_report":
        return importlib.import_module(f"{__name__}.{_HOMES[name]}").report
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _VERBS:
        return getattr(importlib.import_module(f"{__name__}.verbs.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
