"""The machine and the versions that a result comes from, and what its processor or accelerator can do."""

import contextlib
import importlib
import os
import platform


def hardware():
    """One line on the machine: its accelerators, or its processor and the cores that this process may use."""
    processor = cpu_info("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return ", ".join(name for name, _ in accelerators()) or f"{processor}, {cores} cores"


def versions():
    """Versions that decide a result, for the model card: a dict of package name to version."""
    import keras
    import numpy as np

    backend = keras.backend.backend()
    return {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__,
            "backend": backend, backend: importlib.import_module(backend).__version__}


def has_native_bfloat16():
    """Whether the accelerator, or without one the processor, multiplies bfloat16 in hardware."""
    import keras

    if gpus := accelerators():
        return gpus[0][1]
    flags = {"avx512_bf16", "amx_bf16"} & set(cpu_info("flags").split())
    return bool(flags) and keras.backend.backend() == "tensorflow"  # JAX's code for processors emulates it


def accelerators():
    """What the backend uses beside the processor: a list of (name, whether it multiplies bfloat16)."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [(device.device_kind, float(getattr(device, "compute_capability", 8)) >= 8)  # a TPU has none
                for device in jax.devices() if device.platform != "cpu"]
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [(gpu.get("device_name", "GPU"), gpu.get("compute_capability", (0, 0)) >= (8, 0))  # NVIDIA Ampere
            for gpu in details]


def cpu_info(key):
    """The first value of `key` in /proc/cpuinfo, or "" where there is none."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "")
    return ""
