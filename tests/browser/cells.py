"""The notebook that the browser tests run: every view, on the demo model."""

SETUP = """
import time, torch
from nnsight_magic import views
from nnsight_magic.views import *
from nnsight_magic.loading.load import open_source
source = open_source("demo")
model, tokenizer = source.weights(), source.tokenizer
torch.set_num_threads(2)
def top(logits, count=5):
    best = logits.float().softmax(-1).topk(count)
    return [[(tokenizer.decode([i]), float(p)) for i, p in zip(ids, ps)]
            for ids, ps in zip(best.indices.tolist(), best.values.tolist())]
ids = tokenizer("The Eiffel Tower is in the city of", return_tensors="pt")["input_ids"]
tokens = [tokenizer.decode([i]) for i in ids[0]]
with torch.no_grad():
    clean = model(ids, output_hidden_states=True)
    hook = model.model.layers[22].mlp.register_forward_hook(lambda *a: torch.zeros_like(a[2]))
    now = model(ids, output_hidden_states=True)
    hook.remove()
before, after = clean.logits[0].log_softmax(-1), now.logits[0].log_softmax(-1)
kl = (after.exp() * (after - before)).sum(-1).tolist()
"""

TREE = """
tree = tree_view(model, "SmolLM2", aliases={"model.layers": "layers", "lm_head": "unembed"})
tree
"""

TENSOR = """
tensor = torch.arange(24.0 * 64 * 64).reshape(24, 64, 64)
heat = show(tensor, "heat", axes=("head", "token", "token"), expression="layers[3].output")
heat
"""

BIG = """
big_tensor = torch.randn(2048, 2048)
big_tensor[700, 1500] = float("nan")
big = show(big_tensor, "big")
big
"""

HOSTILE = """
hostile = tokens_view(TokenStrip(["<s>", "<b>x</b>", " </script>", "\\n", " ok"],
    top=[[("<i>y</i>", 0.9), (" <s>", 0.1)]] * 5))
hostile
"""

RESULT = """
strip = TokenStrip(tokens, top=top(now.logits[0]), clean=top(clean.logits[0]), kl=kl)
result = TraceView("run 1", ["demo", "ran 30 of 30 blocks"], wrote=["layers[22].mlp.output"],
    tokens=tokens_view(strip),
    tensors=[TensorView(now.hidden_states[20], "resid", tokens=tokens, sizes={"feature": 576},
                        module="model.layers.19"),
             compare(clean.hidden_states[24], now.hidden_states[24], "block 23", tokens=tokens)],
    tree=tree_view(model, "SmolLM2"))
result
"""

STEPS = """
steps = StepsView(tokens, [Step(t, p, [(t, p), (" other", 0.1)]) for t, p in
    [(" Paris", 0.66), (",", 0.4), (" France", 0.9)]])
steps
"""

GRID = """
grid = GridView([top(model.lm_head(model.model.norm(h[0])).detach())
    for h in clean.hidden_states[:-1:6]], tokens, title="lens")
grid
"""

BAD = """
bad = [show(torch.tensor(3.25), "scalar"), show(torch.randn(*[2] * 8), "rank eight"),
    show(torch.full((40, 40), float("nan")), "only NaN"), show(torch.zeros(0, 3), "empty"),
    show(torch.arange(50_000.0).expand(50_000, 50_000), "ten gigabytes"),
    show(torch.tensor([[True, False]]), "truth"), show(torch.randn(4, 4) * 1j, "complex"),
    show(torch.tensor([[float("inf"), -float("inf"), 1.0, 1e38]]), "ends"),
    show(torch.randn(3, 5).to(torch.float8_e4m3fn), "float8"),
    show(torch.randn(3, 5).bfloat16(), "bfloat16"), show(torch.arange(7), "integers")]
for each in bad: display(each)
"""

HUGE = """
# Every list has a length of its own, so that none is folded away: 100,000 rows.
huge = torch.nn.Module()
for k in range(400):
    children = [torch.nn.Identity() for _ in range(50 + k)]
    huge.add_module(f"part{k}", torch.nn.Sequential(*children, torch.nn.Linear(2, k + 1)))
huge_tree = tree_view(huge, "huge")
huge_tree
"""

CELLS = [SETUP, TREE, TENSOR, BIG, HOSTILE, RESULT, STEPS, GRID, HUGE]
