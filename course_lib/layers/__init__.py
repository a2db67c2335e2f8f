"""The layers of a Transformer, in the order in which chapters 01 to 03 explain them."""

from course_lib.layers.activations import activation_function, gelu_approximate, quick_gelu
from course_lib.layers.attention import (
    MultiHeadAttention,
    attention_weights,
    merge_heads,
    scaled_dot_product_attention,
    split_heads,
)
from course_lib.layers.feed_forward import FeedForward
from course_lib.layers.masks import causal_mask, combine_masks, padding_mask
from course_lib.layers.positions import (
    PositionEmbedding,
    RotaryEmbedding,
    SinePositionEncoding,
    rotary_frequencies,
    token_positions,
)
from course_lib.layers.taps import inside, tapped
from course_lib.layers.transformer import TransformerBlock, TransformerStack, make_norm

__all__ = [
    "FeedForward",
    "MultiHeadAttention",
    "PositionEmbedding",
    "RotaryEmbedding",
    "SinePositionEncoding",
    "TransformerBlock",
    "TransformerStack",
    "activation_function",
    "attention_weights",
    "causal_mask",
    "combine_masks",
    "gelu_approximate",
    "inside",
    "make_norm",
    "merge_heads",
    "padding_mask",
    "quick_gelu",
    "rotary_frequencies",
    "scaled_dot_product_attention",
    "split_heads",
    "tapped",
    "token_positions",
]
