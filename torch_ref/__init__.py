"""The same system as a PyTorch user would write it: autograd instead of hand-written derivatives.

Every function, layer and model of npllm has its reference here, under the same name at the same path, with the same
constructor arguments and state_dict keys. tests/equivalence compares the two.
"""
