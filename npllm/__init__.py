"""Everything inside a GPT, in NumPy you can read, every number checked against PyTorch.

The rooms of the house, in the order in which data flows. Read them from top to bottom:

    corpora        the texts
    tokenizers     text → ids                      words, then byte pair encoding, then GPT-2's
    batching       ids → windows → batches         what comes next, asked at every position
    functional     the mathematics                 every function, and right below it its derivative
    layers         the same with weights           parameters, and gradients added up
    attention      positions look at each other    as it came about; simplified, self, causal, multi-head
    interop        weight files in and out
    models         all of it together              what came before, and a GPT
    training       gradients → better weights, in a folder that survives a power cut
    generation     a trained model continues a text
    lab            the tour, which shows all of this at work, and the commands

An import points upwards in this list, never down. Computing needs NumPy alone.
"""
