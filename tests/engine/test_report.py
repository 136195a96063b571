"""What a trace says of itself: how many blocks ran, counted by what the model itself ran."""

from __future__ import annotations

import itertools

import pytest

from nnsight_magic import LanguageModel
from tests import tiny

IDS = [[5, 6, 7, 8]]


def sites(model):
    inner = next(iter(model.children().values()))
    yield from (lambda: model.embed.output, lambda: model.norm.output, lambda: model.logits)
    if "rotary_emb" in inner.children():
        yield lambda: inner.rotary_emb.output
    yield from (lambda: inner.output, lambda: inner.inputs, lambda: model.inputs)
    for block in model.layers:
        yield lambda block=block: block.output
        yield lambda block=block: block.input
        yield lambda block=block: block.mlp.output


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_blocks_that_ran_are_counted(architecture, monkeypatch):
    model = LanguageModel(tiny.build(architecture), tiny.tokenizer())
    kind = type(model.layers[0].module)
    numbers = {id(block.module): number for number, block in enumerate(model.layers)}
    forward, ran = kind.forward, []

    def counted(self, *args, **kwargs):
        ran.append(numbers[id(self)])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(kind, "forward", counted)
    places = list(sites(model))
    counts = set()
    for first, second in itertools.product(places, places):
        for third in (None, places[0], places[2], places[9]):
            model.resume.clear()
            with model.trace(IDS):
                first()
            ran.clear()
            with model.trace(IDS) as tracer:
                second()
                if third is not None:
                    third()
            report = tracer.report
            assert 0 <= report.blocks_run <= report.blocks
            assert report.blocks_run + report.blocks_skipped <= report.blocks
            assert (report.resumed_at is not None) == (report.blocks_skipped > 0)
            if report.forwards == 1:
                counts.add(report.blocks_run)
                begun = set(report.ran)
                # At a block's own input hooks stand before its forward.
                assert begun == set(ran)
                assert report.blocks_run == len(report.ran)
    assert len(counts) > 2
