"""Peak memory of one call, counted by the library's own allocator: the bytes beyond those allocated before."""

import tracemalloc

from torch.profiler import ProfilerActivity, profile


def peak_of_numpy(run):
    """Peak bytes; NumPy reports every array to tracemalloc."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = run()  # kept until the peak is read: results are part of it
        _, peak = tracemalloc.get_traced_memory()
        del result
        return peak - before
    finally:
        tracemalloc.stop()


def peak_of_torch(run):
    """Peak bytes; PyTorch's profiler records every allocation and release."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        result = run()
    del result
    events = (e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]")
    held = peak = 0
    for _, number in sorted((event.start_ns(), event.nbytes()) for event in events):
        held += number
        peak = max(peak, held)
    return peak
