"""Load, trace, change, generate: the whole workflow in one script.

    python notebooks/integrated_pipeline.py [MODEL]

MODEL is a hub name, a folder, a GGUF file, or `demo` (the default).
"""

from __future__ import annotations

import sys

import torch

from nnsight_magic import LanguageModel

PROMPT = "The Eiffel Tower is in the city of"
SOURCE = "The Colosseum is in the city of"
SUBJECT = slice(1, 4)  # the tokens that name the building, in both prompts


def top(model: LanguageModel, logits: torch.Tensor, count: int = 3) -> str:
    """The likeliest next tokens of `logits` `(1, tokens, vocabulary)`, with probabilities."""
    best = logits[0, -1].softmax(-1).topk(count)
    return ", ".join(
        f"{model.tokenizer.decode(token)!r} {p:.1%}"
        for p, token in zip(best.values, best.indices, strict=True)
    )


def main(name: str) -> None:
    # Load. The weights come with the first trace.
    model = LanguageModel(name)
    print(f"{name}: {len(model.layers)} blocks")

    # Trace: read a hidden state and the final logits.
    with model.trace(PROMPT):
        hidden = model.layers[-1].output[0].save()
        clean = model.output.logits.save()
    assert hidden.value.shape[:2] == clean.value.shape[:2]
    print(f"\n{PROMPT!r} → {top(model, clean.value)}")

    # Change a whole output: the last block's MLP adds nothing.
    with model.trace(PROMPT):
        mlp = model.layers[-1].mlp
        mlp.output = torch.zeros_like(mlp.output)
        silenced = model.logits.save()
    print(f"without the last MLP → {top(model, silenced.value)}")

    # Change a part: the last token's attention output in a middle block.
    middle = len(model.layers) // 2
    with model.trace(PROMPT):
        model.layers[middle].attn.output[0][:, -1] = 0
        part = model.logits.save()
    print(f"without attention at the last token in block {middle} → {top(model, part.value)}")
    assert not torch.equal(part.value, clean.value)

    # Patch: the building's hidden states of another prompt.
    early = len(model.layers) // 4
    with model.trace(SOURCE):
        source = model.layers[early].output[0][:, SUBJECT].save()
    with model.trace(PROMPT):
        model.layers[early].output[0][:, SUBJECT] = source.value
        patched = model.logits.save()
    print(f"with the building of {SOURCE!r} in block {early} → {top(model, patched.value)}")

    # Generate, with a state read and a write and the final logits in each step.
    with model.generate(PROMPT, max_new_tokens=6, do_sample=False) as tracer:
        states, chosen = [], []
        for _ in tracer.steps:
            states.append(model.layers[early].output[0].save())
            model.layers[-1].mlp.output *= 0.9
            chosen.append(model.output.logits[:, -1].argmax(-1).save())
    text = model.tokenizer.decode(tracer.result[0], skip_special_tokens=True)
    print(f"\ngenerated: {text!r}")
    assert [tuple(state.value.shape[:2]) for state in states[1:]] == [(1, 1)] * (len(states) - 1)
    assert torch.equal(torch.cat([c.value for c in chosen]), tracer.result[0, -len(chosen) :])

    # And without a block, the sequences themselves.
    plain = model.generate(PROMPT, max_new_tokens=6, do_sample=False)
    print(f"unchanged: {model.tokenizer.decode(plain[0], skip_special_tokens=True)!r}")
    print("\nThe integrated pipeline ran to its end.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "demo")
