r"""Attention (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.2): the formula, then the layer.

Shapes: B batch, T target (query) length, S source (key) length, N heads, K key–value heads, H width of one head,
D model width. A mask is boolean, true where attention is allowed, and broadcasts to the scores.
"""

import keras
from keras import ops
from keras.src.backend import get_keras_mask  # it has no public name, and JAX's tracers have no attribute `_keras_mask`

from course_lib.layers.masks import causal_mask, combine_masks, mask_of_scores
from course_lib.layers.quantization import KeepsQuantization
from course_lib.layers.taps import tapped
from course_lib.validation import check_heads


def attention_weights(query, key, mask=None, scale=None):
    r"""Computes how much each query attends to each key: $\mathrm{softmax}(QK^\top/\sqrt{H})$, from equation 1.

    The softmax is computed in float32 or wider. A query that may attend to nothing gets weights of zero.

    Args:
        query: floats (..., T, H).
        key: floats (..., S, H).
        mask: booleans that broadcast to (..., T, S), or None.
        scale: factor of the scores. Defaults to $1/\sqrt{H}$.

    Returns:
        Weights (..., T, S) in the query's dtype. Each row sums to one, or to zero if its mask allows nothing.

    Raises:
        ValueError: if query and key differ in width, or the mask is not boolean.
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"Expected a query and a key of one width H; got shapes {query.shape} and {key.shape}.")
    query = ops.convert_to_tensor(query)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))  # (..., T, S)
    scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if mask is not None:
        mask = combine_masks(mask)
        scores = ops.where(mask, scores, -1e30)
    weights = ops.softmax(scores, axis=-1) if scores.shape[-1] != 1 else ops.ones_like(scores)  # or Keras warns
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)  # where no key is allowed, the softmax is uniform
    return ops.cast(weights, query.dtype)


def scaled_dot_product_attention(query, key, value, mask=None):
    r"""Computes $\mathrm{Attention}(Q, K, V) = \mathrm{softmax}(QK^\top/\sqrt{H})\,V$, equation 1 of the paper.

    Args:
        query: floats (..., T, H).
        key: floats (..., S, H).
        value: floats (..., S, H).
        mask: booleans that broadcast to (..., T, S), or None.

    Returns:
        The output (..., T, H) and the weights (..., T, S). A query that may attend to nothing gets zeros in both.

    Raises:
        ValueError: if query and key differ in width, or the mask is not boolean.
    """
    weights = attention_weights(query, key, mask)
    return ops.matmul(weights, value), weights


def split_heads(x, num_heads):
    """Splits the vector of each position into one piece per head: (B, T, N·H) → (B, T, N, H).

    Args:
        x: (B, T, N·H).
        num_heads: N.

    Returns:
        (B, T, N, H).
    """
    return ops.reshape(x, (-1, *ops.shape(x)[1:-1], num_heads, x.shape[-1] // num_heads))


def merge_heads(x):
    """Joins the pieces of all heads again: (B, T, N, H) → (B, T, N·H), the inverse of `split_heads`.

    Args:
        x: (B, T, N, H).

    Returns:
        (B, T, N·H).
    """
    return ops.reshape(x, (-1, *ops.shape(x)[1:-2], x.shape[-2] * x.shape[-1]))


def _scores_shape(queries, keys):
    return queries.shape[0], queries.shape[2], queries.shape[1], keys.shape[1]  # (B, N, T, S)


def _swap(x):
    return ops.swapaxes(x, 1, 2)  # (B, T, N, H) ↔ (B, N, T, H)


@keras.saving.register_keras_serializable("course_lib")
class MultiHeadAttention(KeepsQuantization, keras.layers.Layer):
    r"""Multi-head attention, section 3.2.2 of the paper: N heads, each of which attends with its own projections.

    Called with a query alone, it computes self-attention. Called with a query and a value, it computes cross-attention:
    keys and values come from the value. Masks have the same meaning as in `keras.layers.MultiHeadAttention`. The
    backend's fused kernel (`keras.ops.dot_product_attention`) is used unless the weights are returned, tapped or
    dropped out, or the dtype is float16 and JAX runs on a CPU.

    Args:
        num_heads: N.
        hidden_dim: N·H, the width of all heads together. Defaults to the width D of the query.
        dropout: fraction of the attention weights dropped in training.
        use_bias: whether the four projections have biases.
        kernel_initializer: initializer of the four projections' kernels.
        output_initializer: initializer of the output projection's kernel. Defaults to `kernel_initializer`.
        scale: factor of the scores. Defaults to $1/\sqrt{H}$.
        num_key_value_heads: K, the number of heads for keys and values. N / K heads for queries share each of them, so
            a cache is smaller by that factor (grouped-query attention, Ainslie et al., 2023,
            https://arxiv.org/abs/2305.13245). Defaults to N.
        rotary: a `RotaryEmbedding` that turns queries and keys by their positions, or None.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `num_key_value_heads` does not divide `num_heads`; or, when the layer is built, if `num_heads`
            does not divide the width.
    """

    def __init__(
        self,
        num_heads,
        hidden_dim=None,
        dropout=0.0,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        output_initializer=None,
        scale=None,
        num_key_value_heads=None,
        rotary=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_key_value_heads = num_key_value_heads or num_heads
        if num_heads % self.num_key_value_heads:
            raise ValueError(
                f"Expected num_key_value_heads to divide num_heads, {num_heads}; got {num_key_value_heads}."
            )
        self.rotary = keras.saving.deserialize_keras_object(rotary) if isinstance(rotary, dict) else rotary
        self.hidden_dim = hidden_dim
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.scale = scale
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.supports_masking = True

    def build(self, query_shape, value_shape=None):
        """Creates the weights.

        Args:
            query_shape: (B, T, D).
            value_shape: (B, S, D'). Defaults to the query's.

        Raises:
            ValueError: if `num_heads` does not divide the width.
        """
        model_dim = query_shape[-1]
        width = self.hidden_dim or model_dim
        check_heads(self.num_heads, width)
        value_shape = value_shape or query_shape
        shared_width = width // self.num_heads * self.num_key_value_heads
        self.query = self._projection("query", width, query_shape)
        self.key = self._projection("key", shared_width, value_shape)
        self.value = self._projection("value", shared_width, value_shape)
        if self.rotary:
            self.rotary.build((None, None, self.num_heads, width // self.num_heads))
        self.output_projection = self._projection(
            "output", model_dim, (*query_shape[:-1], width), self.output_initializer
        )

    def _projection(self, name, units, input_shape, initializer=None):
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=(initializer or self.kernel_initializer).clone(),  # one instance always draws the same
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def keys_and_values(self, value, positions=None):
        """Computes the keys and values of a source.

        They do not depend on the query, so a decoding loop computes those of cross-attention only once.

        Args:
            value: floats (B, S, D').
            positions: integers (S,) or (B, S), for rotary positions. Defaults to 0, …, S - 1.

        Returns:
            Keys and values, each (B, S, K, H).
        """
        keys, values = (split_heads(layer(value), self.num_key_value_heads) for layer in (self.key, self.value))
        return (self.rotary(keys, positions) if self.rotary else keys), values

    def call(
        self,
        query,
        value=None,
        attention_mask=None,
        padding_mask=None,
        use_causal_mask=False,
        cache=None,
        position=None,
        positions=None,
        return_attention=False,
        tap=None,
        training=None,
    ):
        """Computes attention.

        Args:
            query: floats (B, T, D).
            value: floats (B, S, D'). Defaults to the query.
            attention_mask: booleans, true where attention is allowed: (T, S), (B, T, S) or (B, N, T, S). An axis has
                length 1 if the mask is the same all along it.
            padding_mask: (B, S), nonzero where the value has a real token. Without a cache, it defaults to the value's
                implicit Keras mask, such as the one that `keras.layers.Embedding(mask_zero=True)` makes.
            use_causal_mask: whether to hide keys at later positions from each query.
            cache: pair of keys and values, each (B, S, K, H). With a `position`, the new ones are written there, and
                attention reads the whole cache, so the mask must exclude slots that are still empty. Without a
                `position`, the cache is complete (cross-attention in a decoding loop) and is only read.
            position: slot of the cache at which the query starts, an integer or a scalar tensor.
            positions: integers (T,) or (B, T), where the query's tokens stand, for rotary positions. In self-attention
                the keys stand there, too. Defaults to `position`, `position` + 1, …
            return_attention: whether to return the weights.
            tap: a function that sees and may replace "weights" (B, N, T, S) and "heads" (B, T, N, H), what each head
                computes; see `course_lib.layers.taps`.
            training: whether to apply dropout.

        Returns:
            The output (B, T, D). With `return_attention`, also the weights (B, N, T, S). With a cache, also the updated
            cache. A query that may attend to nothing gets weights of zero.

        Raises:
            ValueError: if a mask has the wrong shape or dtype, or the T tokens do not fit into the cache.
        """
        value = query if value is None else value
        queries = split_heads(self.query(query), self.num_heads)  # (B, T, N, H)
        if self.rotary:
            if positions is None and position is not None:
                positions = ops.arange(ops.shape(queries)[1]) + position
            queries = self.rotary(queries, positions)
        positions = positions if value is query else None  # those of another source are 0, …, S - 1
        if cache is None:
            keys, values = self.keys_and_values(value, positions)  # (B, S, K, H)
            padding_mask = get_keras_mask(value) if padding_mask is None else padding_mask
        elif position is None:
            keys, values = cache
        else:
            keys, values = _write(cache, self.keys_and_values(value, positions), position)

        mask = mask_of_scores(attention_mask, padding_mask, _scores_shape(queries, keys))
        fused = not (return_attention or tap or (training and self.dropout.rate) or _is_float16_on_a_jax_cpu(queries))
        # JAX's kernel has a causal mode, which needs no mask. Keras makes a mask for that of TensorFlow.
        is_causal = keras.backend.backend() == "jax" and use_causal_mask and fused and mask is None and cache is None
        if use_causal_mask and not is_causal:
            lengths = ops.shape(queries)[1], ops.shape(keys)[1]
            causal = causal_mask(*lengths, 0 if position is None else position)
            mask = combine_masks(mask, ops.expand_dims(causal, (0, 1)))  # (1, 1, T, S)
        if fused:
            outputs = _fused_attention(queries, keys, values, mask, self.scale, is_causal)
        else:
            shared = [_repeat_heads(part, self.num_heads) for part in (keys, values)]
            weights = attention_weights(_swap(queries), _swap(shared[0]), mask, self.scale)  # (B, N, T, S)
            weights = tapped(tap, "weights", weights)
            outputs = _swap(ops.matmul(self.dropout(weights, training=training), _swap(shared[1])))  # (B, T, N, H)
        outputs = self.output_projection(merge_heads(tapped(tap, "heads", outputs)))

        extras = [weights] if return_attention else []
        extras += [(keys, values)] if cache is not None else []
        return (outputs, *extras) if extras else outputs

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout.rate,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": self.output_initializer and keras.initializers.serialize(self.output_initializer),
            "scale": self.scale,
            "num_key_value_heads": None if self.num_key_value_heads == self.num_heads else self.num_key_value_heads,
            "rotary": self.rotary and keras.saving.serialize_keras_object(self.rotary),
        }


def _repeat_heads(x, num_heads):
    """Gives each query head its keys or values: (B, S, K, H) → (B, S, N, H)."""
    groups = num_heads // x.shape[2]
    return ops.repeat(x, groups, axis=2) if groups > 1 else x


def _fused_attention(queries, keys, values, mask, scale, is_causal):
    """Attends by the backend's fused kernel: (B, T, N, H)."""
    num_heads, num_shared = queries.shape[2], keys.shape[2]
    if queries.shape[1] == 1 and num_shared < num_heads and (mask is None or mask.shape[1] == 1):
        # One new token: the heads that share keys become its queries, so a decoding loop does not copy the cache.
        grouped = _swap(ops.reshape(queries, (-1, num_shared, num_heads // num_shared, queries.shape[3])))
        outputs = _fused_attention(grouped, keys, values, mask, scale, is_causal=False)  # (B, N / K, K, H)
        return ops.reshape(_swap(outputs), ops.shape(queries))
    keys, values = _repeat_heads(keys, num_heads), _repeat_heads(values, num_heads)
    if mask is not None and keras.backend.backend() == "jax":  # cuDNN's kernel needs a row per query
        mask = ops.logical_and(mask, ops.ones((ops.shape(queries)[1], 1), "bool"))
    outputs = ops.dot_product_attention(queries, keys, values, mask=mask, scale=scale, is_causal=is_causal)
    if mask is not None:  # where nothing is allowed, the kernel averages all values
        allowed = ops.any(mask, axis=-1, keepdims=True)  # broadcasts to (B, N, T, 1)
        outputs = outputs * _swap(ops.cast(allowed, outputs.dtype))
    return outputs


def _write(cache, new, position):
    """Writes new keys and values into the cache at a position. Returns the updated cache."""
    slots, length = cache[0].shape[1], new[0].shape[1]
    if isinstance(position, int) and isinstance(length, int) and position + length > slots:
        raise ValueError(f"Expected {length} tokens at position {position} within the cache's {slots} slots.")
    return tuple(ops.slice_update(old, (0, position, 0, 0), part) for old, part in zip(cache, new, strict=True))


def _is_float16_on_a_jax_cpu(x):
    """Tells whether JAX lacks the kernel: "The precision 'F16_F16_F32' is not supported by dot_general on CPU"."""
    if keras.backend.backend() != "jax" or keras.backend.standardize_dtype(x.dtype) != "float16":
        return False
    import jax

    return jax.default_backend() == "cpu"
