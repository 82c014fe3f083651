"""The GPT in PyTorch."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from npllm.models.gpt import GPTConfig
from npllm.weights import gpt2 as hugging_face
from torch_ref.layers.dropout import Dropout
from torch_ref.layers.embedding import Embedding
from torch_ref.layers.positions import LearnedPositionalEmbedding
from torch_ref.models.transformer_block import TransformerBlock


class GPT(nn.Module):
    """Embeddings, blocks, norm, head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.d_model)
        self.wpe = LearnedPositionalEmbedding(config.context_length, config.d_model)
        self.drop = Dropout(config.embedding_dropout)
        self.h = nn.ModuleList(
            TransformerBlock(
                config.d_model, config.context_length, config.residual_dropout, config.num_heads, config.qkv_bias,
                config.attention_dropout, config.layer_norm_eps, d_hidden=config.d_hidden, activation=config.activation,
                scale=self.scale_of(layer),
            )
            for layer in range(config.num_layers)
        )  # fmt: skip
        self.ln_f = nn.LayerNorm(config.d_model, config.layer_norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.wte.weight
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                depth = 2 * config.num_layers if name.endswith("c_proj.weight") else 1
                nn.init.normal_(parameter, std=0.02 / math.sqrt(depth))

    def scale_of(self, layer):
        """1 / √D / (layer + 1), without the factors that the configuration switches off."""
        head_dim = self.config.d_model // self.config.num_heads
        divisor = math.sqrt(head_dim) if self.config.scale_scores else 1.0
        return 1.0 / (divisor * (layer + 1 if self.config.scale_by_layer else 1))

    def forward(self, ids):
        """The logits."""
        x = self.drop(self.wte(ids) + self.wpe(ids.shape[-1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))

    def aux_loss(self):
        """0: a GPT has no routers."""
        return 0.0

    def loss(self, ids, targets):
        """The mean cross-entropy."""
        return F.cross_entropy(self(ids).flatten(0, -2), targets.flatten())

    @classmethod
    def from_pretrained(cls, path):
        """Read weights in Hugging Face's layout."""
        fields, state = hugging_face.load(path)
        model = cls(GPTConfig(**fields))
        model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
        return model

    def save_pretrained(self, folder):
        """Write them."""
        fields = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__}
        hugging_face.save(folder, fields, {name: tensor.numpy() for name, tensor in self.state_dict().items()})
