"""The Transformer's parts (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3), and its encoder.

Shapes: B batch, T length, S source length, N heads, D model width.
"""

import keras

from course_lib.activations import activation_function
from course_lib.attention import MultiHeadAttention


@keras.saving.register_keras_serializable("course_lib")
class FeedForward(keras.layers.Layer):
    r"""The same two dense layers at every position, $f(xW_1 + b_1)W_2 + b_2$: equation 2 of the paper.

    Args:
        intermediate_dim: width between the two.
        activation: f, as `activation_function` knows it.
        kernel_initializer: of both layers.
        output_initializer: of the second layer, where it has another.
        **kwargs: what every Keras layer takes.
    """

    def __init__(
        self,
        intermediate_dim,
        activation="relu",
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.activation = activation_function(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        dense = {"dtype": self.dtype_policy}
        self.intermediate = keras.layers.Dense(
            self.intermediate_dim, kernel_initializer=self.kernel_initializer.clone(), name="intermediate", **dense
        )
        initializer = (self.output_initializer or self.kernel_initializer).clone()
        self.output_projection = keras.layers.Dense(
            input_shape[-1], kernel_initializer=initializer, name="output", **dense
        )
        self.intermediate.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.intermediate_dim))

    def call(self, x):
        """(B, T, D) → (B, T, D), each position by itself.

        Args:
            x: floats (B, T, D).

        Returns:
            (B, T, D).
        """
        return self.output_projection(self.activation(self.intermediate(x)))

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "intermediate_dim": self.intermediate_dim,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": self.output_initializer and keras.initializers.serialize(self.output_initializer),
        }


@keras.saving.register_keras_serializable("course_lib")
class EncoderBlock(keras.layers.Layer):
    """Self-attention, then feed-forward, each with dropout, a residual connection and a layer norm.

    The paper and BERT put the norm after the sum, `norm(x + sublayer(x))`; GPT-2 and most models since put it before
    the sublayer, `x + sublayer(norm(x))` (Xiong et al., 2020, https://arxiv.org/abs/2002.04745). Under a causal mask
    it is the block of a decoder.

    Args:
        num_heads: N.
        intermediate_dim: width inside the feed-forward layer.
        activation: inside the feed-forward layer, as `activation_function` knows it.
        dropout: share of each sublayer's output dropped in training.
        attention_dropout: share of the attention weights dropped in training.
        norm_first: whether the norms stand before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        kernel_initializer: of all dense layers.
        output_initializer: of those whose output is added to x, where they have another.
        attention_scale: what the products of queries and keys are multiplied by, as in `MultiHeadAttention`.
        **kwargs: what every Keras layer takes.
    """

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        attention_scale=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.norm_first = norm_first
        common = {"dtype": self.dtype_policy}
        kernels = {"kernel_initializer": kernel_initializer, "output_initializer": output_initializer, **common}
        self.attention = MultiHeadAttention(
            num_heads, dropout=attention_dropout, scale=attention_scale, name="attention", **kernels
        )
        self.feed_forward = FeedForward(intermediate_dim, activation, name="feed_forward", **kernels)
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, name="attention_norm", **common
        )
        self.feed_forward_norm = keras.layers.LayerNormalization(
            epsilon=layer_norm_epsilon, name="feed_forward_norm", **common
        )
        self.dropout = keras.layers.Dropout(dropout, name="dropout", **common)

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        for layer in (self.attention, self.feed_forward, self.attention_norm, self.feed_forward_norm):
            layer.build(input_shape)

    def call(self, x, attention_mask=None, cache=None, position=None, return_attention=False, training=None):
        """Transforms each position in the light of the others.

        Args:
            x: floats (B, T, D).
            attention_mask: booleans that broadcast to (B, N, T, S), true where attention is allowed, or None.
            cache: keys and values (B, S, N, H) of earlier positions, as in `MultiHeadAttention`; S is T without it.
            position: where in the cache the first of the T stands.
            return_attention: whether the attention weights are returned.
            training: whether to drop out.

        Returns:
            (B, T, D); with `return_attention` also the weights (B, N, T, S); with a cache also the new one.
        """
        x, extras = self._attend(
            self.attention,
            self.attention_norm,
            x,
            attention_mask=attention_mask,
            cache=cache,
            position=position,
            return_attention=return_attention,
            training=training,
        )
        x = self._feed_forward(x, training)
        return (x, *extras) if extras else x

    def _attend(self, attention, norm, x, *value, training, **arguments):
        """A sublayer of attention: the new x, and a list of what else the attention returns."""
        change = attention(self._enter(x, norm), *value, training=training, **arguments)
        change, *extras = change if isinstance(change, tuple) else (change,)
        return self._leave(x, change, norm, training), extras

    def _feed_forward(self, x, training):
        norm = self.feed_forward_norm
        return self._leave(x, self.feed_forward(self._enter(x, norm)), norm, training)

    def _enter(self, x, norm):
        return norm(x) if self.norm_first else x

    def _leave(self, x, change, norm, training):
        x = x + self.dropout(change, training=training)
        return x if self.norm_first else norm(x)

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "num_heads": self.attention.num_heads,
            "intermediate_dim": self.feed_forward.intermediate_dim,
            "activation": keras.activations.serialize(self.feed_forward.activation),
            "dropout": self.dropout.rate,
            "attention_dropout": self.attention.dropout.rate,
            "norm_first": self.norm_first,
            "layer_norm_epsilon": self.attention_norm.epsilon,
            **{name: self.attention.get_config()[name] for name in ("kernel_initializer", "output_initializer")},
            "attention_scale": self.attention.scale,
        }


@keras.saving.register_keras_serializable("course_lib")
class Encoder(keras.layers.Layer):
    """A stack of encoder blocks; with the norms before the sublayers, one more norm closes it.

    Under a causal mask, and with a cache where it continues a text, it is a decoder without cross-attention: GPT-2.

    Args:
        num_layers: how many blocks.
        num_heads: N.
        intermediate_dim: width inside the feed-forward layers.
        norm_first: whether the norms stand before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        attention_scale: as in `EncoderBlock`, or a list with one for each block.
        name: of the layer.
        dtype: dtype or policy of the layer.
        **block: the other arguments of `EncoderBlock`.

    Raises:
        ValueError: if there is no block, or a list of scales has not one for each.
    """

    block_class = EncoderBlock

    def __init__(
        self,
        num_layers,
        num_heads,
        intermediate_dim,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        attention_scale=None,
        name=None,
        dtype=None,
        **block,
    ):
        super().__init__(name=name, dtype=dtype, trainable=block.pop("trainable", True))
        if num_layers < 1:
            raise ValueError(f"Expected at least one block; got num_layers={num_layers}.")
        scales = attention_scale if isinstance(attention_scale, list | tuple) else [attention_scale] * num_layers
        if len(scales) != num_layers:
            raise ValueError(f"Expected one attention_scale for each of {num_layers} blocks; got {len(scales)}.")
        self.blocks = [
            self.block_class(
                num_heads,
                intermediate_dim,
                norm_first=norm_first,
                layer_norm_epsilon=layer_norm_epsilon,
                attention_scale=scale,
                dtype=self.dtype_policy,
                name=f"block_{index}",
                **block,
            )
            for index, scale in enumerate(scales)
        ]
        self.norm = None
        if norm_first:
            self.norm = keras.layers.LayerNormalization(
                epsilon=layer_norm_epsilon, dtype=self.dtype_policy, name="norm"
            )

    def build(self, input_shape):
        """Creates the weights.

        Args:
            input_shape: (B, T, D).
        """
        for layer in [*self.blocks, self.norm] if self.norm else self.blocks:
            layer.build(input_shape)

    def call(
        self,
        x,
        attention_mask=None,
        cache=None,
        position=None,
        return_hidden_states=False,
        return_attention=False,
        training=None,
    ):
        """Runs the blocks one after another.

        Args:
            x: floats (B, T, D).
            attention_mask: booleans that broadcast to (B, N, T, S), true where attention is allowed, or None.
            cache: a tuple of each block's keys and values of earlier positions, a pair (B, S, N, H); S is T without it.
            position: where in the cache the first of the T stands, an integer or a scalar tensor.
            return_hidden_states: whether `hidden_states` are returned.
            return_attention: whether `attention` is returned.
            training: whether to drop out.

        Returns:
            A dict with `sequence_output` (B, T, D); on request `hidden_states`, a tuple of the input and each block's
            output, and `attention`, a tuple of each block's weights (B, N, T, S); with a cache, `cache`, the new one.
        """
        block = {"attention_mask": attention_mask, "return_attention": return_attention, "training": training}
        outputs, attention = self._run(x, cache, return_hidden_states, position=position, **block)
        if return_attention:
            outputs["attention"] = tuple(weights for (weights,) in attention)
        return outputs

    def _run(self, x, cache, return_hidden_states, **block_arguments):
        """Runs the blocks; also returns the attention weights of each, a list."""
        hidden_states, attention, caches = [x], [], []
        for index, block in enumerate(self.blocks):
            x = block(x, cache=None if cache is None else cache[index], **block_arguments)
            x, *extras = x if isinstance(x, tuple) else (x,)
            hidden_states.append(x)
            caches.append(extras.pop() if cache is not None else None)
            attention.append(extras)
        outputs = {"sequence_output": self.norm(x) if self.norm else x}
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        if cache is not None:
            outputs["cache"] = tuple(caches)
        return outputs, attention

    def get_config(self):
        """The arguments of the constructor."""
        own = {"num_layers": len(self.blocks), "attention_scale": [block.attention.scale for block in self.blocks]}
        return self.blocks[0].get_config() | super().get_config() | own
