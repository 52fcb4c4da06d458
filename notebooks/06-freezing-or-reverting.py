# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Freezing or reverting
#
# Give parameters up before training or after it? Before: [Layer-Swapping](05-layer-swapping.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import freezing

freezing.answer()

# %% [markdown]
# **The question.** Math gets the middle layers, the language the outer ones. That can be done *before* training, by freezing what the
# other one gets, or *after* it, by training everything and setting the rest back to the base. The paper says that reverting often beats
# freezing ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)). If so, it is odd: whoever reverts throws away what training has
# learned, and whoever freezes knows beforehand what will be left. Reverting could win if the parameters that are thrown away helped the
# others to learn while they were there.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import layer_swapping, scorecard, words
from xlnb.studies import claims
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 100 min on two cores
language: str = "sw"  # the target language of a live run
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## The same mask at two moments
#
# With $m$ what training adds to the base $t_0$ and $M$ the share of each parameter that math owns, *train, then revert* is
# $t_0 + M \cdot m$. *Freeze, then train* trains the parameters in $M$ alone. Both have the same data, the same order of examples, the
# same steps, and both leave the same parameters as they were in the base. With both experts the pair is Layer-Swapping, which reverts
# each expert to its own share, and *frozen experts*, of which each was trained on its share alone.
#
# **Frozen means: no step at all.** A parameter whose gradient is set to zero is not frozen. AdamW goes on moving it by the momentum of
# earlier steps and shrinks it by weight decay. Here the optimizer does not hold what is frozen. How many parameters each side has is
# folded.

# %% tags=["hide-cell"]
study = open_study(profile, language, seed, live, device, dtype)
layer_swapping.owned(["C", "A", "B"])

# %% [markdown]
# ## By the plan
#
# Two of [the plan's](../book/plan.md) six contrasts ask this, one with both experts and one with the math expert alone (Figure 1).

# %%
found = scorecard.outcomes(study)
planned = freezing.of_freezing(claims.planned(found))
freezing.plan_figure(planned, number=1)

# %% tags=["remove-input"]
told = words.caveat(profile) + scorecard.reading(planned)
display(Markdown(told))

# %% [markdown]
# An average may hide that languages differ (Figure 2).

# %%
freezing.languages_figure(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + freezing.languages_reading(found)
display(Markdown(told))

# %% [markdown]
# ## What is lost, and what is put in its place
#
# Two of the four models, reverting and freezing, only give the outer layers up, and something is lost. The swap and frozen experts
# then put the language expert's layers there, and something may be gained (Table 1). If the second step gains nothing, the comparison
# of the merged models is one of what was lost.

# %%
freezing.steps_table(found, number=1)

# %% [markdown]
# ## Other metrics
#
# Table 2 has the same two differences by likelihood, of the calculations and of the whole solution with its words, and by twins, which
# numbers alone cannot tell apart.

# %%
freezing.metrics_table(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + freezing.metrics_reading(found)
display(Markdown(told))

# %% [markdown]
# ## Other partitions, and all parameters trained
#
# Partition C cuts between layers, A and B between attention and FFN; *half and half* gives the lower half of the layers to the language.
# And the paper's experts were fine-tuned in full as well, not by LoRA alone (Figure 3).

# %%
there = freezing.elsewhere(study)
freezing.elsewhere_figure(there, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + freezing.elsewhere_reading(there)
display(Markdown(told))

# %% [markdown]
# **Change this:** with `found[found["seed"] == 0]` in the place of `found` Figure 2 is drawn from one training.
#
# ## Exercises
#
# 1. Set a gradient to zero after a first step. Does the parameter stay where it is?
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
# parameter = torch.nn.Parameter(torch.ones(1))
# optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0)
# for gradient in (1.0, 0.0):
#     parameter.grad = torch.full_like(parameter, gradient)
#     before = parameter.detach().clone()
#     optimizer.step()
# bool(parameter != before)
# ```
#
# It moves on. Set to `None` the gradient would have kept it.
#
# </details>
#
# 2. Which partition makes both methods the same model?
#
# <details><summary>Solution</summary>
#
# The one that gives all to math: nothing is frozen and nothing reverted, and both are the math expert.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + freezing.summary(planned, found, there)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** experts that move further, so that the parameters which are given up matter more to the others; a
# language expert with something to give; partitions found by measurement. **Not run:** the paper's four models.
#
# Before: [Layer-Swapping](05-layer-swapping.ipynb). Next: [Simultaneous fine-tuning](07-simultaneous.ipynb), the same mask at every step.
