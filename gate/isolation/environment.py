"""The environment of a worker, built from nothing: no credential can be in it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FIXED = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "model",
    "USER": "model",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "JOBLIB_MULTIPROCESSING": "0",  # it finds out for itself, with a warning
    "TQDM_DISABLE": "1",  # what is printed last is shown when a model crashes
}
_FOLDERS = (
    "HOME", "TMPDIR", "HF_HOME", "HF_MODULES_CACHE", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "XDG_DATA_HOME", "SKLEARN_DATA", "SCIKIT_LEARN_DATA",
)  # fmt: skip
_NUMBER = re.compile(r"\d{1,6}")
_DEVICES = re.compile(r"[\w.,:/-]{0,400}")
# What decides how a model computes, and is worth having alike in the worker; only with a value of this form.
_COPIED = {
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_THREAD_LIMIT"),
        _NUMBER,
    ),
    "CUBLAS_WORKSPACE_CONFIG": re.compile(r"(:\d{1,6}){2,8}"),
    "KERAS_BACKEND": re.compile(r"tensorflow|torch|jax"),
    "CUDA_DEVICE_ORDER": re.compile(r"PCI_BUS_ID|FASTEST_FIRST"),
    "CUDA_VISIBLE_DEVICES": _DEVICES,
    "NVIDIA_VISIBLE_DEVICES": _DEVICES,
    "LD_LIBRARY_PATH": re.compile(r"[^\0]{0,8000}"),  # where Python itself finds its libraries, on some machines
}


def environment(scratch: Path) -> dict[str, str]:
    """Names and values; everything that a library might write is led into the scratch folder."""
    found = {name: os.environ.get(name) for name in _COPIED}
    copied = {name: value for name, value in found.items() if value is not None and _COPIED[name].fullmatch(value)}
    return {**_FIXED, **dict.fromkeys(_FOLDERS, str(scratch)), **copied}
