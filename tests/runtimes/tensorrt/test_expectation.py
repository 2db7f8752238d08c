import pytest

from runtimes.tensorrt.expectation import Moved, expectation_from_bytes

HALF = Moved("fp16", 803.9, 32)


@pytest.mark.parametrize(
    ("precision", "megabytes", "pays", "sentence"),
    [
        ("int8", 635.94, True, "expected to pay: INT8 moves 635.9 MB, FP16 803.9 MB at batch 32"),
        ("int8", 1292.0, False, "not expected to pay: INT8 moves 1292.0 MB, FP16 803.9 MB at batch 32"),
        ("fp8", 874.4, False, "not expected to pay: FP8 moves 874.4 MB, FP16 803.9 MB at batch 32"),
        # As many bytes buy nothing.
        ("int8", 803.9, False, "not expected to pay: INT8 moves 803.9 MB, FP16 803.9 MB at batch 32"),
    ],
)
def test_plan_that_moves_less_than_fp16_is_expected_to_pay(precision, megabytes, pays, sentence):
    found = expectation_from_bytes(Moved(precision, megabytes, 32), HALF)
    assert (found.pays, found.sentence) == (pays, sentence)


def test_other_batch_sizes_are_not_compared():
    with pytest.raises(ValueError, match="batch sizes 1 and 32"):
        expectation_from_bytes(Moved("int8", 22.5, 1), HALF)
