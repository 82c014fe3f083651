"""The same system as a PyTorch user would write it: autograd in place of derivatives by hand.

Every function, layer and class of npllm has its twin here, under the same name at the same path, with the same
arguments and the same state_dict keys. `equivalence` holds one against the other; `verify` does so for all.
"""
