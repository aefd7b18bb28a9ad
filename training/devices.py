"""Several devices and several processes under JAX: they share each batch, and the result is the same.

One process uses all devices that JAX sees. Several processes, on one or more machines, are the same command
with KERAS_DISTRIBUTION_JOB_ADDRESSES (address:port of process 0), KERAS_DISTRIBUTION_NUM_PROCESSES and
KERAS_DISTRIBUTION_PROCESS_ID set, or as tasks of Slurm. Order, augmentation and mixing are drawn for the
whole batch in each process; process 0 alone writes files and prints.
"""

import concurrent.futures
import contextlib
import os
import re
import sys
import traceback

import keras

from utils.cli import UserError


def join():
    """Make this process one of several where the environment says so, before JAX computes anything."""
    is_slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" not in os.environ and not is_slurm:
        return
    if keras.backend.backend() != "jax":
        raise UserError("several processes need KERAS_BACKEND=jax")
    try:
        keras.distribution.initialize()
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"cannot join the other processes: {str(error).splitlines()[0]}") from error
    if not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def share_batches(batch_size):
    """Have Keras divide each batch among all devices, those of the other processes included."""
    if keras.backend.backend() != "jax":
        return
    import jax

    count = jax.device_count()
    if batch_size % count:
        raise UserError(f"--batch-size {batch_size} cannot be shared by {count} devices; choose a multiple")
    if count > 1:
        print(f"{jax.process_count()} processes, {count} devices share each batch of {batch_size}")
        keras.distribution.set_distribution(keras.distribution.DataParallel(
            devices=keras.distribution.list_devices(), auto_shard_dataset=False))


@contextlib.contextmanager
def alone():
    """A block in which this process computes by itself: what is built and fed here is not shared."""
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def own_rows(size):
    """The slice of a batch of `size` rows that this process gives to `fit`; all of it inside `alone`."""
    if keras.distribution.distribution() is None:
        return slice(None)
    number, count = processes()
    part = size // count
    return slice(number * part, (number + 1) * part)


def processes():
    """(number of this process, how many there are), two int."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_main():
    """Whether this process writes files and prints: process 0, or the only one."""
    return processes()[0] == 0


def waiting_for_all(step):
    """A step of Keras' fit (`train_function`) that waits until all devices of this process are done: when a
    partner is lost, one may fail while the first, the only one that Keras asks, waits until JAX aborts."""
    if processes()[1] == 1:
        return step
    import jax

    threads = concurrent.futures.ThreadPoolExecutor(jax.local_device_count())

    def wait(state, iterator):
        logs, state = step(state, iterator)
        waits = [threads.submit(shard.data.block_until_ready) for shard in logs["loss"].addressable_shards]
        for done in concurrent.futures.as_completed(waits):
            done.result()
        return logs, state

    return wait


def end_together(error, how_to_continue):
    """End one of several processes at once after an error or the loss of another: JAX's own shutdown would
    wait a minute. A single process returns."""
    if processes()[1] == 1:
        return
    import jax

    # The collectives of a lost process fail as JaxRuntimeError or, in convert_to_numpy, as ValueError
    is_lost = isinstance(error, jax.errors.JaxRuntimeError) or re.search("Gloo|NCCL", str(error))
    if is_lost:
        error = UserError(f"another process of this run has ended; {how_to_continue}")
    if isinstance(error, UserError):
        print(f"{os.path.basename(sys.argv[0])}: error: {error}", file=sys.stderr, flush=True)
        os._exit(2)
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)
