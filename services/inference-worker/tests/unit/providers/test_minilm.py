from hypothesis import given
from hypothesis import strategies as st
from inference_worker.providers.minilm import MAX_TOKENS
from inference_worker.providers.onnx_model import MAX_BATCH_TOKENS, batches


@given(st.lists(st.integers(1, MAX_TOKENS), max_size=100))
def test_every_text_is_in_one_batch_and_every_batch_is_bounded(lengths: list[int]):
    batched = list(batches(lengths))

    assert sorted(index for batch in batched for index in batch) == list(range(len(lengths)))
    assert all(len(batch) * max(lengths[index] for index in batch) <= MAX_BATCH_TOKENS for batch in batched)


def test_texts_of_similar_length_are_in_one_batch():
    assert list(batches([250, 3, 250, 4])) == [[1, 3], [0, 2]]
