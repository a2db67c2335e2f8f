"""Attention (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.2): first the formula, then the layer.

Shapes: B batch, T target (query) length, S source (key) length, N heads, H width of one head, D model width.
A mask is boolean, true where attention is allowed, and broadcasts to the scores.
"""

import keras
from keras import ops

from course_lib.inputs import check_heads


def attention_weights(query, key, mask=None, scale=None):
    r"""How much each query attends to each key: $\mathrm{softmax}(QK^\top/\sqrt{H})$, from equation 1 of the paper.

    The softmax is taken in float32 at least, whatever the inputs' dtype. A query that may attend to nothing has
    weights of zero.

    Args:
        query: floats (..., T, H).
        key: floats (..., S, H).
        mask: booleans that broadcast to (..., T, S), true where attention is allowed, or None.
        scale: what the products are multiplied by; $1/\sqrt{H}$ if None.

    Returns:
        Weights (..., T, S) in the query's dtype; each row sums to one, or to zero if its mask allows nothing.

    Raises:
        ValueError: if the query and the key differ in width, or the mask is not boolean.
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"Expected a query and a key of one width H; got shapes {query.shape} and {key.shape}.")
    query = ops.convert_to_tensor(query)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))  # (..., T, S)
    scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if mask is not None:
        mask = _checked(mask)
        scores = ops.where(mask, scores, -1e30)
    weights = ops.softmax(scores, axis=-1)
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)  # a row without a single key is uniform after the softmax
    return ops.cast(weights, query.dtype)


def scaled_dot_product_attention(query, key, value, mask=None):
    r"""$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}(QK^\top/\sqrt{H})\,V$, equation 1 of the paper.

    Args:
        query: floats (..., T, H).
        key: floats (..., S, H).
        value: floats (..., S, H).
        mask: booleans that broadcast to (..., T, S), true where attention is allowed, or None.

    Returns:
        The output (..., T, H) and the weights (..., T, S). A query that may attend to nothing gets zeros in both.

    Raises:
        ValueError: if the query and the key differ in width, or the mask is not boolean.
    """
    weights = attention_weights(query, key, mask)
    return ops.matmul(weights, value), weights


def causal_mask(target_length, source_length=None, position=None):
    """The mask under which no position sees a later one.

    Target position t stands at source position `position` + t. By default the last target meets the last source, as
    when the newest tokens of a sequence query everything so far.

    Args:
        target_length: T.
        source_length: S; T if not given.
        position: where the first target stands among the sources, an integer or a scalar tensor; S - T if not given.

    Returns:
        Booleans (T, S).
    """
    source_length = target_length if source_length is None else source_length
    position = source_length - target_length if position is None else position
    return ops.arange(source_length)[None, :] <= ops.arange(target_length)[:, None] + position


def padding_mask(is_token):
    """The mask under which padding is not attended to.

    Args:
        is_token: (B, S), nonzero where a row holds a token and zero where it is padded: what tokenizers return as
            `padding_mask`.

    Returns:
        Booleans (B, 1, 1, S): the same for every head and every query.

    Raises:
        ValueError: if `is_token` has not two axes.
    """
    if len(is_token.shape) != 2:
        raise ValueError(f"Expected a padding mask of shape (B, S); got {tuple(is_token.shape)}.")
    return ops.cast(is_token, "bool")[:, None, None, :]


def combine_masks(*masks):
    """The mask that allows what every mask allows.

    Args:
        *masks: booleans that broadcast together, or None for "everything is allowed".

    Returns:
        Booleans, or None if no mask was given.

    Raises:
        ValueError: if a mask is not boolean.
    """
    combined = None
    for mask in masks:
        if mask is not None:
            combined = _checked(mask) if combined is None else ops.logical_and(combined, _checked(mask))
    return combined


def _checked(mask):
    mask = ops.convert_to_tensor(mask)
    if keras.backend.standardize_dtype(mask.dtype) != "bool":
        raise ValueError(f"Expected a boolean mask, true where attention is allowed; got dtype {mask.dtype}.")
    return mask


def split_heads(x, num_heads):
    """(B, T, N·H) → (B, T, N, H): the vector of each position is cut into one piece a head.

    Args:
        x: (B, T, N·H).
        num_heads: N.

    Returns:
        (B, T, N, H).
    """
    return ops.reshape(x, (-1, *ops.shape(x)[1:-1], num_heads, x.shape[-1] // num_heads))


def merge_heads(x):
    """(B, T, N, H) → (B, T, N·H): the inverse of `split_heads`.

    Args:
        x: (B, T, N, H).

    Returns:
        (B, T, N·H).
    """
    return ops.reshape(x, (-1, *ops.shape(x)[1:-2], x.shape[-2] * x.shape[-1]))


@keras.saving.register_keras_serializable("course_lib")
class MultiHeadAttention(keras.layers.Layer):
    r"""Multi-head attention, section 3.2.2 of the paper: each of N heads attends with its own projections of width H.

    Self-attention where only a query is given, cross-attention where a value (whence the keys, too) is. The weights
    are computed one by one where they are asked for or dropped out; otherwise
    `keras.ops.dot_product_attention` takes the fused kernel of the backend, where there is one.

    Args:
        num_heads: N.
        hidden_dim: N·H, the width of all queries together; the width D of the query where it is not given.
        dropout: share of the weights dropped in training.
        use_bias: whether the four projections have biases.
        kernel_initializer: of the four projections.
        output_initializer: of the last of them, where it has another.
        scale: what the products of queries and keys are multiplied by; $1/\sqrt{H}$ if None.
        **kwargs: what every Keras layer takes.

    Raises:
        ValueError: if the heads do not divide `hidden_dim`.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.scale = scale
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, query_shape, value_shape=None):
        """Creates the weights.

        Args:
            query_shape: (B, T, D).
            value_shape: (B, S, D'), that of the query where it is not given.

        Raises:
            ValueError: if the heads do not divide `hidden_dim`.
        """
        model_dim = query_shape[-1]
        self.hidden_dim = self.hidden_dim or model_dim
        check_heads(self.num_heads, self.hidden_dim)
        value_shape = value_shape or query_shape
        self.query = self._projection("query", self.hidden_dim, query_shape)
        self.key = self._projection("key", self.hidden_dim, value_shape)
        self.value = self._projection("value", self.hidden_dim, value_shape)
        merged_shape = (*query_shape[:-1], self.hidden_dim)
        self.output_projection = self._projection("output", model_dim, merged_shape, self.output_initializer)

    def _projection(self, name, units, input_shape, initializer=None):
        dense = keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            kernel_initializer=(initializer or self.kernel_initializer).clone(),  # one instance always gives the same
            dtype=self.dtype_policy,
            name=name,
        )
        dense.build(input_shape)
        return dense

    def call(
        self, query, value=None, attention_mask=None, cache=None, position=None, return_attention=False, training=None
    ):
        """Attends.

        Args:
            query: floats (B, T, D).
            value: floats (B, S, D'), whence keys and values come; the query if not given.
            attention_mask: booleans that broadcast to (B, N, T, S), true where attention is allowed, or None.
            cache: keys and values (B, S, N, H) of earlier calls, as a pair. New ones are written into it at
                `position`, and the whole of it is attended to: the mask must exclude what is not yet written.
            position: where in the cache to write, an integer or a scalar tensor. If None, the cache is complete and
                is read as it stands (cross-attention in a decoding loop).
            return_attention: whether the weights are returned.
            training: whether to drop out.

        Returns:
            The output (B, T, D); with `return_attention` also the weights (B, N, T, S); with a cache also the new one.

        Raises:
            ValueError: if the T do not fit into the cache, as far as `position` is an integer.
        """
        mask = None if attention_mask is None else _four_axes(attention_mask)
        weights = None
        queries = split_heads(self.query(query), self.num_heads)  # (B, T, N, H)
        if cache is not None and position is None:
            keys, values = cache
        else:
            value = query if value is None else value
            keys = split_heads(self.key(value), self.num_heads)  # (B, S, N, H)
            values = split_heads(self.value(value), self.num_heads)  # (B, S, N, H)
        if cache is not None and position is not None:
            if isinstance(position, int) and position + (keys.shape[1] or 0) > cache[0].shape[1]:
                raise ValueError(
                    f"Expected a position and {keys.shape[1]} tokens within the cache's {cache[0].shape[1]} slots; got "
                    f"position {position}."
                )
            keys = ops.slice_update(cache[0], (0, position, 0, 0), keys)
            values = ops.slice_update(cache[1], (0, position, 0, 0), values)

        if return_attention or (training and self.dropout.rate):
            weights = attention_weights(_heads_first(queries), _heads_first(keys), mask, self.scale)  # (B, N, T, S)
            outputs = ops.matmul(self.dropout(weights, training=training), _heads_first(values))
            outputs = _heads_first(outputs)  # (B, T, N, H) again
        else:
            outputs = ops.dot_product_attention(queries, keys, values, mask=mask, scale=self.scale)
            if mask is not None:  # the fused path averages over everything where nothing is allowed
                allowed = ops.cast(ops.any(mask, axis=-1, keepdims=True), outputs.dtype)  # broadcasts to (B, N, T, 1)
                outputs = outputs * _heads_first(allowed)
        outputs = self.output_projection(merge_heads(outputs))

        extras = [weights] * return_attention + [(keys, values)] * (cache is not None)
        return (outputs, *extras) if extras else outputs

    def get_config(self):
        """The arguments of the constructor."""
        return super().get_config() | {
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout.rate,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "output_initializer": self.output_initializer and keras.initializers.serialize(self.output_initializer),
            "scale": self.scale,
        }


def _heads_first(x):
    return ops.swapaxes(x, 1, 2)  # (B, T, N, H) ↔ (B, N, T, H)


def _four_axes(mask):
    mask = _checked(mask)
    return ops.expand_dims(mask, tuple(range(4 - len(mask.shape))))  # (T, S) → (1, 1, T, S)
