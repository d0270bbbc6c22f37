from hypothesis import given
from hypothesis import strategies as st
from inference_worker.adapters.minilm import BATCH_TOKENS, MAX_TOKENS, batches


@given(st.lists(st.integers(1, MAX_TOKENS), max_size=100))
def test_every_text_is_in_one_batch_and_every_batch_is_bounded(lengths: list[int]):
    found = list(batches(lengths))

    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[place] for place in batch) <= BATCH_TOKENS for batch in found)


def test_texts_of_like_length_go_together():
    assert list(batches([250, 3, 250, 4])) == [[1, 3], [0, 2]]
