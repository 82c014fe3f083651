"""Weight files: formats and names of tensors.

Read in this order: safetensors, model_folder, config_fields, gpt2, llama, tensor_names, gguf.
"""
