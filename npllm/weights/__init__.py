"""Weight files: formats and names of tensors.

Read in this order: safetensors, model_folder, gpt2, llama.
"""
