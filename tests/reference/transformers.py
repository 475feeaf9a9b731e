"""Layers of transformers in NumPy, one row, one head, one token after another, in double precision."""

import numpy as np
from scipy.special import erf, log_softmax, softmax


def doubles(tree):
    """A tree of parameters as float64."""
    if isinstance(tree, dict):
        return {name: doubles(part) for name, part in tree.items()}
    return np.asarray(tree, np.float64)


def linear(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def normalise(layer, x, epsilon=1e-6):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * layer["scale"] + layer["bias"]


def feed_forward(layer, x):
    return linear(layer["out"], gelu(linear(layer["into"], x)))


def attend(query, key, value, mask, heads, causal=False):
    """What the tokens of one row read: query [T, D], key and value [S, D], mask [S]."""
    steps, width = query.shape
    size = width // heads
    read = np.zeros((steps, width))
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        for step in range(steps):
            seen = [other for other in range(len(key)) if mask[other] and (other <= step or not causal)]
            if seen:
                scores = softmax([query[step, own] @ key[other, own] / np.sqrt(size) for other in seen])
                read[step, own] = sum(score * value[other, own] for score, other in zip(scores, seen, strict=True))
    return read


def attention(layer, x, mask, heads, causal=False):
    parts = (linear(layer[name], x) for name in ("query", "key", "value"))
    return linear(layer["out"], attend(*parts, mask, heads, causal))


def transformer(tree, x, mask, heads, causal=False):
    """One row: tokens [T, D] -> [T, D], dense layers."""
    x = x * mask[:, None]
    for number in range(len(tree.get("layers", {}))):
        layer = tree["layers"][number]
        x = x + attention(layer["attention"], normalise(layer["before_attention"], x), mask, heads, causal)
        x = x + feed_forward(layer["feed_forward"], normalise(layer["before_feed_forward"], x))
        x = x * mask[:, None]
    return x


def experts(tree, x, chosen, capacity=None):
    """Tokens [N, D] that are all there -> (answers, expert of each choice or -1 where it was refused).

    Args:
        capacity: choices that an expert takes; first choices are served before second ones.
    """
    logits = x @ tree["router"]["kernel"]
    order = np.argsort(-(logits + tree.get("order", 0.0)), axis=1, kind="stable")[:, :chosen]
    room = np.full(logits.shape[1], len(x) * chosen if capacity is None else capacity)
    answers, taken = np.zeros_like(x), np.full(order.shape, -1)
    for preference in range(chosen):
        for token in range(len(x)):
            expert = order[token, preference]
            if not room[expert]:
                continue
            room[expert] -= 1
            taken[token, preference] = expert
            among = logits[token] if chosen == 1 else logits[token, order[token]]
            gate = np.exp(logits[token, expert] - np.logaddexp.reduce(among))
            hidden = gelu(x[token] @ tree["into"][expert] + tree["into_bias"][expert])
            answers[token] += gate * (hidden @ tree["out"][expert] + tree["out_bias"][expert])
    return answers, taken


def balance(logits, chosen, experts):
    """The balancing loss without its weight: E times the products of shares and mean probabilities."""
    shares = np.bincount(np.argsort(-logits, axis=1, kind="stable")[:, :chosen].ravel(), minlength=experts) / (len(logits) * chosen)
    return experts * float(shares @ np.exp(log_softmax(logits, axis=1)).mean(axis=0))
