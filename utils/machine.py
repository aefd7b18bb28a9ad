"""The machine and the versions that a result comes from, and what its processor or accelerator can do."""

import contextlib
import os
import platform


def hardware():
    """One line on the machine: its accelerators, or its processor and the cores that this process may use."""
    accelerators = accelerator_names()
    if accelerators:
        return ", ".join(accelerators)
    name = cpu_info("model name") or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def versions():
    """Versions that decide a result, for the model card: a dict of package name to version."""
    import keras
    import numpy as np

    backend = keras.backend.backend()
    found = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "numpy": np.__version__,
        "backend": backend,
    }
    with contextlib.suppress(ImportError):
        found[backend] = __import__(backend).__version__
    return found


def has_native_bfloat16():
    """Whether the accelerator, or without one the processor, multiplies bfloat16 in hardware."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() == "cpu":
            return False  # XLA's code for processors emulates it
        capability = getattr(jax.devices()[0], "compute_capability", None)
        return capability is None or float(capability) >= 8.0  # None: a TPU; 8.0: NVIDIA Ampere
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
            return capability >= (8, 0)
    flags = cpu_info("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def accelerator_names():
    """Names of the accelerators that the backend uses, a list of str; empty on a processor alone."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
                for gpu in tf.config.list_physical_devices("GPU")]
    return []


def cpu_info(key):
    """The first value of `key` in /proc/cpuinfo, or "" where there is none."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "")
    return ""
