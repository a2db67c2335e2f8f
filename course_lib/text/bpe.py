"""Learns merges, to train a WordPiece or a BPE vocabulary, and applies them in the order of their ranks.

Byte-pair encoding (Sennrich et al., 2016, https://arxiv.org/abs/1508.07909, algorithm 1): words begin as sequences of
single symbols. In each step, the most frequent pair of neighbours is merged into a new symbol.
"""

import collections
import heapq
import itertools
import operator


def learn_merges(words, symbols, vocabulary_size, join=operator.add):
    """Merges the most frequent pair of neighbours, over and over, until the vocabulary has the requested size.

    Among equally frequent pairs, the one with the smaller ids is merged first, so the order of the words does not
    matter. Counts are updated in place, so a merge only costs time for the words that it changes.

    Args:
        words: dict from a word, a tuple of symbols, to how often it occurs.
        symbols: the initial symbols in the order of their ids, special tokens included.
        vocabulary_size: number of symbols to reach. There are fewer if every word has become a single symbol before.
        join: function from two neighbours to their merged symbol.

    Returns:
        The merges, a list of pairs of symbols in the order in which they were learned; and the list of all symbols.
    """
    symbols = list(symbols)
    ids = {symbol: index for index, symbol in enumerate(symbols)}
    sequences = [[ids[symbol] for symbol in word] for word in words]
    occurrences = list(words.values())
    counts, places = collections.Counter(), collections.defaultdict(set)  # of each pair of ids
    for place, (sequence, count) in enumerate(zip(sequences, occurrences, strict=True)):
        for pair in itertools.pairwise(sequence):
            counts[pair] += count
            places[pair].add(place)

    queue = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(queue)
    merges = []
    while queue and len(symbols) < vocabulary_size:
        count, pair = heapq.heappop(queue)
        if -count != counts[pair]:  # outdated: other merges have changed its count
            if counts[pair]:
                heapq.heappush(queue, (-counts[pair], pair))
            continue
        first, second = (symbols[index] for index in pair)
        merges.append((first, second))
        merged = ids.setdefault(join(first, second), len(symbols))
        if merged == len(symbols):  # otherwise another merge has already made this symbol
            symbols.append(join(first, second))
        changed = set()
        for place in places.pop(pair):
            count = occurrences[place]
            for old in itertools.pairwise(sequences[place]):
                counts[old] -= count
            sequences[place] = merge(sequences[place], pair, merged)
            for new in itertools.pairwise(sequences[place]):
                counts[new] += count
                if merged in new:
                    places[new].add(place)
                    changed.add(new)
        for new in changed:
            heapq.heappush(queue, (-counts[new], new))
    return merges, symbols


def merge(sequence, pair, merged):
    """Replaces a pair of neighbours wherever it occurs, from left to right.

    Args:
        sequence: a list of symbols.
        pair: two symbols.
        merged: the symbol that replaces them.

    Returns:
        A list.
    """
    result = []
    for symbol in sequence:
        if result and (result[-1], symbol) == pair:
            result[-1] = merged
        else:
            result.append(symbol)
    return result


def apply_merges(symbols, ranks):
    """Merges the pair of neighbours with the lowest rank, and the leftmost of these, until no pair has a rank.

    A queue of the pairs that can be merged makes the time n log n in the number of symbols. GPT-2's own loop searches
    all pairs at each step, which is slow for a long word, such as a page of Chinese.

    Args:
        symbols: strings.
        ranks: dict from a pair of symbols to the index of its merge in the list of merges.

    Returns:
        A list of strings. Joined, they give the same text as the symbols.
    """
    symbols = [*symbols, None]  # None stands before the first symbol, after the last, and in slots emptied by a merge
    before, after = [-1, *range(len(symbols) - 1)], [*range(1, len(symbols)), 0]
    queue = [(ranks[pair], place) for place, pair in enumerate(itertools.pairwise(symbols)) if pair in ranks]
    heapq.heapify(queue)
    while queue:
        rank, left = heapq.heappop(queue)
        right = after[left]
        if ranks.get((symbols[left], symbols[right])) != rank:
            continue  # outdated: one of the two has been merged in the meantime
        symbols[left], symbols[right] = symbols[left] + symbols[right], None
        after[left] = after[right]
        before[after[left]] = left
        for place in (before[left], left):
            pair = symbols[place], symbols[after[place]]
            if pair in ranks:
                heapq.heappush(queue, (ranks[pair], place))
    return [symbol for symbol in symbols if symbol is not None]
