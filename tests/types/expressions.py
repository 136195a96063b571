"""What an editor says of the expressions that users write most; read by the checker, never run.

Behind each stands what it must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import reveal_type

    import torch

    import nnsight_magic
    from nnsight_magic import LanguageModel, Model
    from nnsight_magic.views import compare, show, tree_view

    m = LanguageModel("demo")
    reveal_type(m)  # LanguageModel
    reveal_type(m.trace("The Eiffel Tower"))  # Tracer
    reveal_type(m.blocks)  # list[Handle]
    reveal_type(m.layers)  # Handle
    reveal_type(m.layers[3])  # Handle
    reveal_type(m.layers[1:3])  # list[Handle]
    reveal_type(m.layers[3].mlp)  # Handle
    reveal_type(m["model.layers.3.mlp"])  # Handle
    reveal_type(m.module)  # Module

    with m.trace("The Eiffel Tower") as tracer:
        reveal_type(tracer)  # Tracer
        reveal_type(m.layers[3].output)  # Value
        reveal_type(m.layers[3].output.save())  # Value
        reveal_type(m.layers[3].output[0])  # Value
        reveal_type(m.layers[3].output.shape)  # Size
        reveal_type(m.layers[3].mlp.input.value)  # Tensor
        reveal_type(m.layers[3].attn.pattern)  # Value
        reveal_type(m.logits[0, -1].softmax(-1).save())  # Value
        reveal_type((m.embed.output * 2 + 1).save())  # Value
        reveal_type(nnsight_magic.save(m.norm.output))  # Value
        reveal_type(tracer.report)  # RunReport
        reveal_type(tracer.invoke("Rome"))  # Tracer
        reveal_type(tracer.cache())  # Cache
        m.layers[3].output[:, -1] = 0
        m.layers[3].mlp.output += 1
        m.layers[3].mlp.input = torch.zeros(3)
        m.logits = m.logits / 2

    reveal_type(m.generate("The Eiffel Tower", max_new_tokens=3))  # Generation
    reveal_type(m.generate("The Eiffel Tower").sequences)  # Tensor
    with m.generate("The Eiffel Tower", max_new_tokens=3) as writer:
        reveal_type(writer)  # GenerationTracer
        for step in writer.steps:
            reveal_type(step)  # Step
            reveal_type(step.tokens)  # Tensor
        reveal_type(writer.result)  # Value

    with m.edit() as edited:
        edited.layers[3].mlp.output = 0
    reveal_type(m.edit("silence"))  # Edit
    reveal_type(m.edits)  # Edits
    reveal_type(m.scan("The Eiffel Tower"))  # Scan
    reveal_type(m.tree())  # TreeView
    reveal_type(Model(torch.nn.Linear(3, 4)).trace(torch.zeros(3)))  # Tracer
    reveal_type(m.sweep("The Eiffel Tower", lambda n: "", range(3)))  # list[str]
    reveal_type(show(torch.zeros(3)))  # View
    reveal_type(compare(torch.zeros(3), torch.ones(3)))  # CompareView
    reveal_type(tree_view(m))  # TreeView
