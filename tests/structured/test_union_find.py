"""Which channel ids stand for the same channel."""

from tfsparse.structured.union_find import UnionFind


def test_joined_ids_have_one_root():
    sets = UnionFind()
    a, b, c = sets.make_sets(3), sets.make_sets(3), sets.make_sets(2)
    sets.union(a, b)
    sets.union(b[1:], c)
    assert sets.find([*a, *b, *c]).tolist() == [0, 1, 2, 0, 1, 2, 1, 2]
    assert len(sets) == 8


def test_a_frozen_id_freezes_the_ids_that_it_is_joined_with():
    sets = UnionFind()
    a, b = sets.make_sets(2), sets.make_sets(2)
    sets.freeze(b[:1], "output")
    sets.union(a, b)
    assert sets.frozen_reason(a[:1]) == "output"
    assert sets.frozen_reason(a[1:]) is None
    assert sets.frozen_reason(a) == "output"


def test_the_first_reason_is_kept():
    sets = UnionFind()
    a = sets.make_sets(1, frozen="input")
    sets.freeze(a, "attention")
    assert sets.frozen_reason(a) == "input"
    b = sets.make_sets(1, frozen="later")
    sets.union(b, a)
    assert sets.frozen_reason(b) == "input"
