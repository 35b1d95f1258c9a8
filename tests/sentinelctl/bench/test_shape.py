from sentinelctl.bench.shape import Shape, repeated


def test_a_repetition_draws_anew_and_keeps_the_rest() -> None:
    shape = Shape(rate=5, seed=7)
    assert [repeated(shape, number).seed for number in range(3)] == [7, 8, 9]
    assert repeated(shape, 2).rate == 5
