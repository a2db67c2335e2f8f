"""The Transformer's decoder (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3): it looks at a source.

Shapes: B batch, T target length, S source length, N heads, H width of one head, D model width.
"""

import keras

from course_lib.attention import split_heads
from course_lib.transformer import Encoder, EncoderBlock


@keras.saving.register_keras_serializable("course_lib")
class DecoderBlock(EncoderBlock):
    """An encoder block that, between its two sublayers, looks at a source: cross-attention, section 3.2.3 of the paper.

    Queries come from the target, keys and values from the source. The sublayer has dropout, a residual connection and a
    norm of its own, like the others.

    Args:
        num_heads: N, of both attentions.
        intermediate_dim: width inside the feed-forward layer.
        **block: the other arguments of `EncoderBlock`.
    """

    def __init__(self, num_heads, intermediate_dim, **block):
        super().__init__(num_heads, intermediate_dim, **block)
        self.cross_attention = _another(self.attention, "cross_attention")
        self.cross_attention_norm = _another(self.attention_norm, "cross_attention_norm")

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D), with the width that the source has, too.
        """
        super().build(input_shape)
        self.cross_attention.build(input_shape)
        self.cross_attention_norm.build(input_shape)

    def read(self, source):
        """What cross-attention makes of the source, the same for every target: a decoding loop computes it once.

        Args:
            source: floats (B, S, D).

        Returns:
            Keys and values (B, S, N, H), a pair.
        """
        attention = self.cross_attention
        return tuple(split_heads(project(source), attention.num_heads) for project in (attention.key, attention.value))

    def call(
        self,
        x,
        source=None,
        attention_mask=None,
        source_mask=None,
        cache=None,
        position=None,
        return_attention=False,
        training=None,
    ):
        """Transforms each position in the light of the others, and of the source.

        Args:
            x: floats (B, T, D).
            source: floats (B, S, D), what the encoder made of the source; not read where there is a cache.
            attention_mask: booleans that broadcast to (B, N, T, T), or to (B, N, T, slots) with a cache, true where
                attention is allowed, or None.
            source_mask: booleans that broadcast to (B, N, T, S), true where attention is allowed, or None.
            cache: a pair: keys and values (B, slots, N, H) of earlier positions, as in `MultiHeadAttention`, and those
                of the source, as `read` returned them.
            position: where in the cache the first of the T stands.
            return_attention: whether the attention weights are returned.
            training: whether to drop out.

        Returns:
            (B, T, D); with `return_attention` also the weights of self-attention, (B, N, T, T) or (B, N, T, slots), and
            of cross-attention (B, N, T, S); with a cache also the new one.
        """
        own, of_source = (None, None) if cache is None else cache
        common = {"return_attention": return_attention, "training": training}
        x, extras = self._attend(
            self.attention,
            self.attention_norm,
            x,
            attention_mask=attention_mask,
            cache=own,
            position=position,
            **common,
        )
        x, cross_extras = self._attend(
            self.cross_attention,
            self.cross_attention_norm,
            x,
            source,
            attention_mask=source_mask,
            cache=of_source,
            **common,
        )
        x = self._feed_forward(x, training)
        weights = [extras[0], cross_extras[0]] if return_attention else []
        caches = [(extras[-1], cross_extras[-1])] if cache is not None else []
        return (x, *weights, *caches) if weights or caches else x


def _another(layer, name):
    return type(layer).from_config(layer.get_config() | {"name": name})


@keras.saving.register_keras_serializable("course_lib")
class Decoder(Encoder):
    """A stack of decoder blocks; with the norms before the sublayers, one more norm closes it.

    Args:
        num_layers: how many blocks.
        num_heads: N.
        intermediate_dim: width inside the feed-forward layers.
        **others: the other arguments of `Encoder`.

    Raises:
        ValueError: if there is no block, or a list of scales has not one for each.
    """

    block_class = DecoderBlock

    def __init__(self, num_layers, num_heads, intermediate_dim, **others):
        super().__init__(num_layers, num_heads, intermediate_dim, **others)

    def read(self, source):
        """What each block's cross-attention makes of the source.

        Args:
            source: floats (B, S, D).

        Returns:
            A tuple of each block's keys and values, a pair (B, S, N, H).
        """
        return tuple(block.read(source) for block in self.blocks)

    def call(
        self,
        x,
        source=None,
        attention_mask=None,
        source_mask=None,
        cache=None,
        position=None,
        return_hidden_states=False,
        return_attention=False,
        training=None,
    ):
        """Runs the blocks one after another, each with a look at the same source.

        Args:
            x: floats (B, T, D).
            source: floats (B, S, D); not read where there is a cache.
            attention_mask: booleans that broadcast to (B, N, T, T), or to (B, N, T, slots) with a cache, true where
                attention is allowed, or None.
            source_mask: booleans that broadcast to (B, N, T, S), true where attention is allowed, or None.
            cache: a tuple with the pair of each block, as in `DecoderBlock`.
            position: where in the cache the first of the T stands, an integer or a scalar tensor.
            return_hidden_states: whether `hidden_states` are returned.
            return_attention: whether `attention` and `cross_attention` are returned.
            training: whether to drop out.

        Returns:
            A dict with `sequence_output` (B, T, D); on request `hidden_states`, a tuple of the input and each block's
            output, `attention`, a tuple of each block's weights (B, N, T, T) or (B, N, T, slots), and
            `cross_attention`, a tuple of its weights (B, N, T, S); with a cache, `cache`, the new one.
        """
        outputs, attention = self._run(
            x,
            cache,
            return_hidden_states,
            source=source,
            attention_mask=attention_mask,
            source_mask=source_mask,
            position=position,
            return_attention=return_attention,
            training=training,
        )
        if return_attention:
            outputs["attention"], outputs["cross_attention"] = map(tuple, zip(*attention, strict=True))
        return outputs
