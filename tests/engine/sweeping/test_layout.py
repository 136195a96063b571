"""How variants of a sweep stand in one forward: where the rows and tokens of each one are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnsight_magic.engine.sweeping.layout import (
    NotTokenwise,
    Packed,
    Rows,
    merged,
    reach,
    value_at,
)

KEYS = [(torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 4))]
TOKENS = 5
STARTS = [2, 0, 4]


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


def packed(kept: int = 0) -> Packed:
    return Packed(TOKENS, STARTS, KEYS, "past_key_values", kept)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────


def test_tensors_of_the_prompts_rows_stand_once_for_every_variant() -> None:
    rows, ids = Rows(rows=2, count=3), torch.tensor([[1, 2], [3, 4]])
    args, kwargs = rows.arguments((ids, "text"), {"mask": ids, "scale": torch.tensor(2.0)})
    assert args[0].tolist() == [[1, 2], [3, 4]] * 3
    assert args[1] == "text"
    assert kwargs["mask"].shape == (6, 2)
    assert kwargs["scale"].ndim == 0
    other = torch.zeros(5, 2)
    assert rows.spread(other) is other


def test_each_variant_sees_its_own_rows() -> None:
    rows, raw = Rows(rows=2, count=3), numbered(6, 4)
    parts = [rows.part(raw, number) for number in range(3)]
    assert torch.equal(torch.cat(parts), raw)
    assert parts[1][0, 0] == 8


def test_the_parts_of_a_container_are_those_of_its_items() -> None:
    rows = Rows(rows=1, count=2)
    part = rows.part((numbered(2, 3), {"k": numbered(2, 1)}, None), 1)
    assert part[0].tolist() == [[3.0, 4.0, 5.0]]
    assert part[1]["k"].tolist() == [[1.0]]
    assert part[2] is None


def test_a_value_without_rows_is_shared_where_it_is_the_clean_one_and_else_refused() -> None:
    rows, shared = Rows(rows=1, count=2), numbered(7, 3)
    assert rows.part(shared, 0, lambda: shared.clone()) is shared
    with pytest.raises(NotTokenwise):
        rows.part(shared, 0, lambda: shared + 1)


def test_what_variants_write_comes_into_their_rows_of_a_copy() -> None:
    rows, raw = Rows(rows=1, count=3), numbered(3, 2)
    new = rows.put(raw, [(0, torch.tensor([[-1.0, -2.0]])), (2, torch.tensor([[7.0, 8.0]]))])
    assert new.tolist() == [[-1.0, -2.0], [2.0, 3.0], [7.0, 8.0]]
    assert torch.equal(raw, numbered(3, 2))


@pytest.mark.parametrize(
    ("raw", "new"),
    [
        (numbered(4, 2), numbered(1, 2)),  # rows that are nobody's
        (numbered(3, 2), numbered(1, 3)),  # another shape than the variant's
        (torch.tensor(1.0), torch.tensor(1.0)),
        ("text", "text"),
    ],
)
def test_what_has_no_rows_is_not_written(raw: Any, new: Any) -> None:
    with pytest.raises(NotTokenwise):
        Rows(rows=1, count=3).put(raw, [(0, new)])


# ── packed ───────────────────────────────────────────────────────────────────────────────────


def test_a_packed_row_has_the_tokens_of_every_variant_from_its_start_on() -> None:
    ids = torch.tensor([[10, 11, 12, 13, 14]])
    _, new = packed().arguments((), {"input_ids": ids})
    assert new["input_ids"].tolist() == [[12, 13, 14, 10, 11, 12, 13, 14, 14]]
    assert new["position_ids"].tolist() == [[2, 3, 4, 0, 1, 2, 3, 4, 4]]


def test_a_token_attends_to_what_is_remembered_before_its_variant_and_to_its_own() -> None:
    """Entry by entry, by what attention means: nothing after, and nothing of other variants."""
    _, new = packed().arguments((), {"input_ids": torch.zeros(1, TOKENS, dtype=torch.long)})
    mask = new["attention_mask"][0, 0]
    owners = [number for number, start in enumerate(STARTS) for _ in range(start, TOKENS)]
    places = [place for start in STARTS for place in range(start, TOKENS)]
    remembered = max(STARTS)
    assert mask.shape == (len(owners), remembered + len(owners))
    for query, (owner, place) in enumerate(zip(owners, places, strict=True)):
        before = [at < STARTS[owner] for at in range(remembered)]
        own = [o == owner and p <= place for o, p in zip(owners, places, strict=True)]
        assert (mask[query] == 0).tolist() == before + own


def test_only_the_last_positions_of_each_variant_have_logits_where_these_are_asked_for() -> None:
    _, new = packed(kept=2).arguments((), {"input_ids": torch.zeros(1, TOKENS, dtype=torch.long)})
    assert new["logits_to_keep"].tolist() == [1, 2, 6, 7, 8]


def test_a_variant_sees_the_clean_value_up_to_its_start_and_its_own_from_there_on() -> None:
    clean, raw = numbered(1, TOKENS, 2), -numbered(1, 9, 2)
    part = packed().part(raw, 0, lambda: clean)
    assert torch.equal(part[:, :2], clean[:, :2])
    assert torch.equal(part[:, 2:], raw[:, 0:3])
    assert torch.equal(packed().part(raw, 1, lambda: clean), raw[:, 3:8])


def test_numbers_of_tokens_are_put_together_in_the_same_way() -> None:
    ids = torch.arange(TOKENS)[None]
    raw = torch.arange(100, 109)[None]
    assert packed().part(raw, 2, lambda: ids).tolist() == [[0, 1, 2, 3, 108]]
    assert packed().part(ids, 2, lambda: ids) is ids


@pytest.mark.parametrize(
    "raw", [numbered(1, 8, 2), numbered(1, 9, 3), numbered(9, 2), numbered(1, 2, 9, 2), None]
)
def test_what_is_not_a_row_of_tokens_is_refused(raw: Any) -> None:
    with pytest.raises(NotTokenwise):
        packed().part(raw, 0, lambda: numbered(1, TOKENS, 2))


def test_writes_come_into_the_tokens_of_their_variant() -> None:
    raw = numbered(1, 9, 1)
    new = packed().put(raw, [(2, torch.full((1, TOKENS, 1), -1.0)), (0, -numbered(1, TOKENS, 1))])
    assert new.flatten().tolist() == [-2, -3, -4, 3, 4, 5, 6, 7, -1]


def test_a_write_is_carried_out_where_nothing_before_the_start_changes() -> None:
    given = numbered(1, TOKENS, 2)
    late, early = given.clone(), given.clone()
    late[:, 3] = 0
    early[:, 1] = 9
    assert packed().carries(given, [((), late)], 0)
    assert not packed().carries(given, [((), early)], 0)
    assert packed().carries(given, [((), early)], 1)
    assert not packed().carries((given, given), [((1,), late)], 2)


# ── reach ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("first", range(TOKENS))
def test_a_write_reaches_from_its_first_token_to_the_last(first: int) -> None:
    old = numbered(2, TOKENS, 3)
    new = old.clone()
    new[1, first, 2] += 1
    assert reach(old, new, {TOKENS}) == TOKENS - first


def test_a_write_that_changes_nothing_reaches_nothing() -> None:
    old = numbered(1, TOKENS, 2)
    assert reach(old, old.clone(), {TOKENS}) == 0
    assert reach(None, None, {TOKENS}) == 0


def test_a_write_to_a_container_reaches_as_far_as_to_any_of_its_items() -> None:
    old = {"a": numbered(1, TOKENS, 2), "b": (numbered(1, TOKENS, 1), None)}
    changed = old["b"][0].clone()
    changed[:, 2] = -1
    assert reach(old, {"a": old["a"].clone(), "b": (changed, None)}, {TOKENS}) == 3
    assert reach(old, {"a": old["a"]}, {TOKENS}) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (numbered(1, TOKENS, 2), numbered(1, TOKENS, 3)),
        (numbered(1, TOKENS, 2), numbered(1, TOKENS, 2).double()),
        (numbered(TOKENS, 2), numbered(TOKENS, 2) + 1),  # which axis the tokens are on is not known
        (numbered(1, 4, 2), numbered(1, 4, 2) + 1),  # as many as no prompt has
        (numbered(1, TOKENS, 2), None),
        (3, 4),
    ],
)
def test_a_write_that_is_not_by_tokens_is_told_apart(old: Any, new: Any) -> None:
    assert reach(old, new, {TOKENS}) is None


# ── writes of several variants ───────────────────────────────────────────────────────────────


def test_writes_at_paths_are_put_into_one_copy() -> None:
    rows, raw = Rows(rows=1, count=2), (numbered(2, 2), {"k": numbered(2, 1)})
    written = {
        (0,): [(1, torch.tensor([[5.0, 6.0]]))],
        (1, "k"): [(0, torch.tensor([[9.0]])), (1, torch.tensor([[8.0]]))],
    }
    new = merged(raw, written, rows)
    assert new[0].tolist() == [[0.0, 1.0], [5.0, 6.0]]
    assert new[1]["k"].tolist() == [[9.0], [8.0]]
    assert torch.equal(raw[0], numbered(2, 2))


def test_a_whole_container_that_a_variant_writes_is_written_item_by_item() -> None:
    rows, raw = Rows(rows=1, count=2), (numbered(2, 2), numbered(2, 1))
    theirs = (torch.tensor([[7.0, 7.0]]), torch.tensor([[3.0]]))
    new = merged(raw, {(): [(1, theirs)]}, rows)
    assert [each.tolist() for each in new] == [[[0.0, 1.0], [7.0, 7.0]], [[0.0], [3.0]]]


def test_a_value_is_found_at_its_path() -> None:
    assert value_at(({"k": [1, 2]},), (0, "k", 1)) == 2
    assert value_at("x", ()) == "x"
