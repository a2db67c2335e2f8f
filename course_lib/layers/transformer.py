"""The Transformer block, and stacks of it (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3).

The Transformers of this course share one block and one stack. BERT's encoder is the plain stack. GPT-2 adds a causal
mask. The decoder of a translator also has cross-attention in each block.

Shapes: B batch, T target length, S source length, N heads, K key–value heads, H width of one head, D model width.
"""

import functools

import keras

from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.feed_forward import FeedForward
from course_lib.layers.quantization import KeepsQuantization
from course_lib.layers.taps import inside, tapped


def make_norm(kind, epsilon, **kwargs):
    """Makes a norm.

    Args:
        kind: "layer" or "rms".
        epsilon: added to the variance, or to the mean of the squares.
        **kwargs: arguments of `keras.layers.Layer`.

    Returns:
        A `keras.layers.LayerNormalization` or a `keras.layers.RMSNormalization`.

    Raises:
        ValueError: if the kind is another.
    """
    kinds = {"layer": keras.layers.LayerNormalization, "rms": keras.layers.RMSNormalization}
    if kind not in kinds:
        raise ValueError(f'Expected norm="layer" or norm="rms"; got {kind!r}.')
    norm = kinds[kind](epsilon=epsilon, **kwargs)
    norm.supports_masking = True  # Keras's RMSNormalization would drop the mask, with a warning
    return norm


@keras.saving.register_keras_serializable("course_lib")
class TransformerBlock(KeepsQuantization, keras.layers.Layer):
    """Applies self-attention, optional cross-attention, and a feed-forward layer, each with a residual connection.

    The paper and BERT normalise after the sum, `norm(x + sublayer(x))`. GPT-2 and most models since normalise before
    the sublayer, `x + sublayer(norm(x))` (Xiong et al., 2020, https://arxiv.org/abs/2002.04745). The defaults are
    those of the paper. Llama (Touvron et al., 2023, https://arxiv.org/abs/2302.13971) changes the last six arguments.

    Args:
        num_heads: N, in each attention layer.
        intermediate_dim: width inside the feed-forward layer.
        cross_attention: whether the block also attends to a source (section 3.2.3 of the paper).
        activation: activation of the feed-forward layer, in any form that `activation_function` takes.
        dropout: fraction of each sublayer's output dropped in training.
        attention_dropout: fraction of the attention weights dropped in training.
        norm_first: whether to normalise before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        kernel_initializer: initializer of all dense kernels.
        output_initializer: that of the dense kernels whose output is added to x. Defaults to `kernel_initializer`.
        attention_scale: factor of the scores. Defaults to 1/√H.
        num_key_value_heads: K, heads for keys and values, as in `MultiHeadAttention`. Defaults to N.
        head_dim: H. Defaults to D / N.
        rotary: a `RotaryEmbedding` for self-attention, or None.
        norm: "layer", or "rms" for `keras.layers.RMSNormalization`, which does not subtract the mean (Zhang and
            Sennrich, 2019, https://arxiv.org/abs/1910.07467).
        gated: whether the feed-forward layer has a gate, as in `FeedForward`.
        use_bias: whether the dense layers have biases.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if the norm is of another kind.
    """

    def __init__(
        self,
        num_heads,
        intermediate_dim,
        cross_attention=False,
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        attention_scale=None,
        num_key_value_heads=None,
        head_dim=None,
        rotary=None,
        norm="layer",
        gated=False,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)

        def attention(name, rotary=None):
            return MultiHeadAttention(
                num_heads,
                hidden_dim=head_dim and head_dim * num_heads,
                dropout=attention_dropout,
                use_bias=use_bias,
                kernel_initializer=kernel_initializer,
                output_initializer=output_initializer,
                scale=attention_scale,
                num_key_value_heads=num_key_value_heads,
                rotary=rotary,
                dtype=self.dtype_policy,
                name=name,
            )

        def norm_layer(name):
            return make_norm(norm, layer_norm_epsilon, dtype=self.dtype_policy, name=name)

        self.norm_first = norm_first
        self.norm = norm
        self.head_dim = head_dim
        self.attention = attention("attention", rotary)
        self.attention_norm = norm_layer("attention_norm")
        self.cross_attention = attention("cross_attention") if cross_attention else None
        self.cross_attention_norm = norm_layer("cross_attention_norm") if cross_attention else None
        self.feed_forward = FeedForward(
            intermediate_dim,
            activation,
            kernel_initializer,
            output_initializer,
            gated,
            use_bias,
            dtype=self.dtype_policy,
            name="feed_forward",
        )
        self.feed_forward_norm = norm_layer("feed_forward_norm")
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.supports_masking = True

    def build(self, x_shape, source_shape=None):
        """Creates the weights.

        Args:
            x_shape: (B, T, D).
            source_shape: (B, S, D') of the source. Defaults to that of x.
        """
        for layer in (self.attention, self.attention_norm, self.feed_forward, self.feed_forward_norm):
            layer.build(x_shape)
        if self.cross_attention:
            self.cross_attention.build(x_shape, source_shape or x_shape)
            self.cross_attention_norm.build(x_shape)

    def call(
        self,
        x,
        source=None,
        attention_mask=None,
        padding_mask=None,
        use_causal_mask=False,
        source_padding_mask=None,
        cache=None,
        position=None,
        positions=None,
        return_attention=False,
        tap=None,
        training=None,
    ):
        """Applies the block.

        Args:
            x: floats (B, T, D).
            source: floats (B, S, D'), what cross-attention attends to. Not read if there is a cache.
            attention_mask: mask of self-attention, in any form that `MultiHeadAttention` takes.
            padding_mask: (B, T), nonzero where x has a real token; with a cache, (B, slots), nonzero where it has one.
            use_causal_mask: whether to hide later positions from each position.
            source_padding_mask: (B, S), nonzero where the source has a real token.
            cache: pair of keys and values of earlier positions, each (B, slots, K, H), as in `MultiHeadAttention`. With
                cross-attention, two such pairs; the second comes from `cross_attention.keys_and_values(source)`.
            position: slot of the cache at which x starts.
            positions: integers (T,) or (B, T), where the tokens stand, for rotary positions. Defaults to `position`,
                `position` + 1, …
            return_attention: whether to return the attention weights.
            tap: a function that sees and may replace what each sublayer adds to x, "attention", "cross_attention" and
                "feed_forward", each (B, T, D), and what is inside the attention layers, "attention/weights" and so on;
                see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            Floats (B, T, D). With `return_attention`, also the weights (B, N, T, T), or (B, N, T, slots) with a cache,
            and, if the block has cross-attention, its weights (B, N, T, S). With a cache, the updated cache comes last.
        """
        own_cache, source_cache = cache if cache and self.cross_attention else (cache, None)
        common = {"return_attention": return_attention, "training": training}

        def before(norm, x):
            return norm(x) if self.norm_first else x

        def after(norm, x, name, change):
            x = x + self.dropout(tapped(tap, name, change), training=training)
            return x if self.norm_first else norm(x)

        masks = {"attention_mask": attention_mask, "padding_mask": padding_mask, "use_causal_mask": use_causal_mask}
        places = {"cache": own_cache, "position": position, "positions": positions}
        taps = {"tap": inside(tap, "attention")}
        found = self.attention(before(self.attention_norm, x), **masks, **places, **taps, **common)
        change, *extras = _as_tuple(found)
        x = after(self.attention_norm, x, "attention", change)

        if self.cross_attention:
            queries = before(self.cross_attention_norm, x)
            taps = {"tap": inside(tap, "cross_attention")}
            found = self.cross_attention(
                queries, source, padding_mask=source_padding_mask, cache=source_cache, **taps, **common
            )
            change, *of_source = _as_tuple(found)
            x = after(self.cross_attention_norm, x, "cross_attention", change)
            if cache is not None:
                of_source[-1] = extras.pop(), of_source[-1]  # the pair of caches comes last
            extras += of_source

        change = self.feed_forward(before(self.feed_forward_norm, x))
        x = after(self.feed_forward_norm, x, "feed_forward", change)
        return (x, *extras) if extras else x

    def get_config(self):
        """Returns the constructor's arguments."""
        attention = self.attention.get_config()
        return super().get_config() | {
            "num_heads": self.attention.num_heads,
            "intermediate_dim": self.feed_forward.intermediate_dim,
            "cross_attention": self.cross_attention is not None,
            "activation": keras.activations.serialize(self.feed_forward.activation),
            "dropout": self.dropout.rate,
            "attention_dropout": self.attention.dropout.rate,
            "norm_first": self.norm_first,
            "layer_norm_epsilon": self.attention_norm.epsilon,
            "kernel_initializer": attention["kernel_initializer"],
            "output_initializer": attention["output_initializer"],
            "attention_scale": self.attention.scale,
            "num_key_value_heads": attention["num_key_value_heads"],
            "head_dim": self.head_dim,
            "rotary": attention["rotary"],
            "norm": self.norm,
            "gated": self.feed_forward.gated,
            "use_bias": self.feed_forward.use_bias,
        }


@keras.saving.register_keras_serializable("course_lib")
class TransformerStack(KeepsQuantization, keras.layers.Layer):
    """Applies `num_layers` blocks one after another. With `norm_first`, one more norm follows the last block.

    Args:
        num_layers: number of blocks.
        num_heads: N.
        intermediate_dim: width inside the feed-forward layers.
        cross_attention: whether each block also attends to a source.
        activation: activation of the feed-forward layers, in any form that `activation_function` takes.
        dropout: fraction of each sublayer's output dropped in training.
        attention_dropout: fraction of the attention weights dropped in training.
        norm_first: whether to normalise before the sublayers.
        layer_norm_epsilon: added to the variance in the norms.
        kernel_initializer: initializer of all dense kernels.
        output_initializer: that of the dense kernels whose output is added to x. Defaults to `kernel_initializer`.
        attention_scale: factor of the scores, or a list with one factor per block. Defaults to 1/√H.
        num_key_value_heads: K, heads for keys and values, as in `MultiHeadAttention`. Defaults to N.
        head_dim: H. Defaults to D / N.
        rotary: a `RotaryEmbedding` for self-attention, or None. Each block gets a copy.
        norm: "layer", or "rms" for `keras.layers.RMSNormalization`, which does not subtract the mean (Zhang and
            Sennrich, 2019, https://arxiv.org/abs/1910.07467).
        gated: whether the feed-forward layer has a gate, as in `FeedForward`.
        use_bias: whether the dense layers have biases.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `num_layers` is below 1, the norm is of another kind, or a list of scales does not have one per
            block.

    Attributes:
        rematerialize: whether training keeps only the input of each block, and computes the rest again in the backward
            pass (Chen et al., 2016, https://arxiv.org/abs/1604.06174). It takes less memory and more time. Set it
            before the first step, and give masks as arguments. There must be no dropout, which would be drawn anew.
    """

    def __init__(
        self,
        num_layers,
        num_heads,
        intermediate_dim,
        cross_attention=False,
        activation="relu",
        dropout=0.0,
        attention_dropout=0.0,
        norm_first=False,
        layer_norm_epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        attention_scale=None,
        num_key_value_heads=None,
        head_dim=None,
        rotary=None,
        norm="layer",
        gated=False,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_layers < 1:
            raise ValueError(f"Expected at least one block; got num_layers={num_layers}.")
        if rotary is not None and not isinstance(rotary, dict):
            rotary = keras.saving.serialize_keras_object(rotary)  # from which each block makes its own
        scales = attention_scale if isinstance(attention_scale, list | tuple) else [attention_scale] * num_layers
        if len(scales) != num_layers:
            raise ValueError(f"Expected one attention_scale for each of {num_layers} blocks; got {len(scales)}.")
        self.blocks = [
            TransformerBlock(
                num_heads,
                intermediate_dim,
                cross_attention=cross_attention,
                activation=activation,
                dropout=dropout,
                attention_dropout=attention_dropout,
                norm_first=norm_first,
                layer_norm_epsilon=layer_norm_epsilon,
                kernel_initializer=kernel_initializer,
                output_initializer=output_initializer,
                attention_scale=scale,
                num_key_value_heads=num_key_value_heads,
                head_dim=head_dim,
                rotary=rotary,
                norm=norm,
                gated=gated,
                use_bias=use_bias,
                dtype=self.dtype_policy,
                name=f"block_{index}",
            )
            for index, scale in enumerate(scales)
        ]
        self.norm = make_norm(norm, layer_norm_epsilon, dtype=self.dtype_policy, name="norm") if norm_first else None
        self.rematerialize = False
        self.supports_masking = True

    def build(self, x_shape, source_shape=None):
        """Creates the weights.

        Args:
            x_shape: (B, T, D).
            source_shape: (B, S, D') of the source. Defaults to that of x.
        """
        for block in self.blocks:
            block.build(x_shape, source_shape)
        if self.norm:
            self.norm.build(x_shape)

    def cross_attention_kv(self, source):
        """Computes each block's keys and values of the source for cross-attention.

        They do not depend on the target, so a decoding loop computes them once.

        Args:
            source: floats (B, S, D').

        Returns:
            A tuple with one pair of keys and values per block, each (B, S, N, H).
        """
        return tuple(block.cross_attention.keys_and_values(source) for block in self.blocks)

    def call(
        self,
        x,
        source=None,
        attention_mask=None,
        padding_mask=None,
        use_causal_mask=False,
        source_padding_mask=None,
        cache=None,
        position=None,
        positions=None,
        return_hidden_states=False,
        return_attention=False,
        tap=None,
        training=None,
    ):
        """Applies the blocks.

        Args:
            x: floats (B, T, D).
            source: floats (B, S, D'), what cross-attention attends to. Not read if there is a cache.
            attention_mask: mask of self-attention, in any form that `MultiHeadAttention` takes.
            padding_mask: (B, T), nonzero where x has a real token; with a cache, (B, slots), nonzero where it has one.
            use_causal_mask: whether to hide later positions from each position.
            source_padding_mask: (B, S), nonzero where the source has a real token.
            cache: a tuple with one cache per block, as `TransformerBlock` takes it.
            position: slot of the cache at which x starts, an integer or a scalar tensor.
            positions: integers (T,) or (B, T), where the tokens stand, for rotary positions. Defaults to `position`,
                `position` + 1, …
            return_hidden_states: whether to return `hidden_states`.
            return_attention: whether to return `attention` and, with cross-attention, `cross_attention`.
            tap: a function that sees and may replace activations: "embeddings", which is x; "block_0", the output of
                the first block; "block_0/attention" and so on, what is inside it; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            A dict with `sequence_output` (B, T, D). On request, also `hidden_states`, a tuple of x and each block's
            output, and `attention` and `cross_attention`, tuples of each block's weights (B, N, T, T) and (B, N, T, S).
            With a cache, also `cache`, the updated one.

        Raises:
            ValueError: if blocks are to be rematerialized in training, and have dropout.
        """
        if self.rematerialize and training and any(b.dropout.rate or b.attention.dropout.rate for b in self.blocks):
            raise ValueError("Expected no dropout with rematerialize: it would be drawn anew in the backward pass.")
        x = tapped(tap, "embeddings", x)
        hidden_states, extras = [x], []
        for index, block in enumerate(self.blocks):
            name = f"block_{index}"
            apply = functools.partial(
                block,
                attention_mask=attention_mask,
                padding_mask=padding_mask,
                use_causal_mask=use_causal_mask,
                source_padding_mask=source_padding_mask,
                cache=None if cache is None else cache[index],
                position=position,
                positions=positions,
                return_attention=return_attention,
                tap=inside(tap, name),
                training=training,
            )
            if self.rematerialize and training:
                apply = keras.remat(apply)
            x, *rest = _as_tuple(apply(x) if source is None else apply(x, source))
            x = tapped(tap, name, x)
            hidden_states.append(x)
            extras.append(rest)

        outputs = {"sequence_output": self.norm(x) if self.norm else x}
        extras = list(zip(*extras, strict=True))
        if cache is not None:
            outputs["cache"] = extras.pop()
        outputs |= dict(zip(("attention", "cross_attention"), extras, strict=False))
        if return_hidden_states:
            outputs["hidden_states"] = tuple(hidden_states)
        return outputs

    def compute_output_shape(self, x_shape, source_shape=None):
        """Returns the shape of `sequence_output`, for `summary`.

        Args:
            x_shape: (B, T, D).
            source_shape: (B, S, D').
        """
        return {"sequence_output": x_shape}

    def compute_output_spec(self, *args, **kwargs):
        """Finds the outputs by tracing `call`: options add outputs that `compute_output_shape` does not name.

        Args:
            *args: arguments of `call`.
            **kwargs: arguments of `call`.

        Returns:
            Keras tensors.
        """
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        """Returns None: the blocks and the norm have already passed the mask on to `sequence_output`.

        Args:
            inputs: x.
            previous_mask: Keras's implicit mask of x.
        """

    def get_config(self):
        """Returns the constructor's arguments."""
        scales = [block.attention.scale for block in self.blocks]
        return (
            self.blocks[0].get_config()
            | super().get_config()
            | {"num_layers": len(self.blocks), "attention_scale": scales}
        )


def _as_tuple(x):
    return x if isinstance(x, tuple) else (x,)
