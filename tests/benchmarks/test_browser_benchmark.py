from benchmarks.browser import percentiles


def test_percentiles_are_of_all_calls() -> None:
    assert percentiles([float(number) for number in range(101)]) == ["50.00", "90.00", "99.00"]
