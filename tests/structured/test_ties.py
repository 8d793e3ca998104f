"""Which channels are one."""

from tfsparse.structured.union_find import Ties


def test_what_is_tied_has_one_root():
    ties = Ties()
    a, b, c = ties.fresh(3), ties.fresh(3), ties.fresh(2)
    ties.tie(a, b)
    ties.tie(b[1:], c)
    assert ties.roots([*a, *b, *c]).tolist() == [0, 1, 2, 0, 1, 2, 1, 2]
    assert len(ties) == 8


def test_a_frozen_one_freezes_what_it_is_tied_to():
    ties = Ties()
    a, b = ties.fresh(2), ties.fresh(2)
    ties.freeze(b[:1], "output")
    ties.tie(a, b)
    assert ties.reason(a[:1]) == "output"
    assert ties.reason(a[1:]) is None
    assert ties.reason(a) == "output"


def test_the_first_reason_is_told():
    ties = Ties()
    a = ties.fresh(1, frozen="input")
    ties.freeze(a, "attention")
    assert ties.reason(a) == "input"
    b = ties.fresh(1, frozen="later")
    ties.tie(b, a)
    assert ties.reason(b) == "input"
