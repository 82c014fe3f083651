"""How fast npllm is, beside what a user would run instead and beside the plain loop.

    python -m benchmarks                      every job; results in benchmarks/results/
    python -m benchmarks softmax attention    these files' jobs

One file a job: it yields `Job`s, see `measure`. To add one, write a file with a function `jobs()` and name it in
`__main__.JOBS`.
"""
