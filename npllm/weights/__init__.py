"""Weight files in and out: names and layouts, no model.

Read in this order: safetensors, hugging_face.
"""
