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
# # Simultaneous fine-tuning
#
# One model, two kinds of batches, each moving its own layers. Before: [Freezing or reverting](06-freezing-or-reverting.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import simultaneous

simultaneous.answer()

# %% [markdown]
# **The question.** A swap trains two experts and throws a part of each away. Why not train the parts in one model from the start? Math
# batches move the layers that math owns, language batches the others, in alternation. The paper tries that
# ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)) and calls it simultaneous partition SFT. Each part then
# learns beside the other as it will be in the end, which no merge can offer. Is that worth anything?

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import experts, scorecard, words
from xlnb.studies import claims
from xlnb.studies.comparisons import BASE
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 60 min on two cores
language: str = "sw"  # the target language
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## Who moves what
#
# The partition is C, scaled to this model: the outer layers belong to the language, the middle to math. Batches take turns, and a
# turn moves the layers of its side alone (Figure 1). Each side is a *lane*, with its own optimizer and its own schedule of the learning
# rate. One optimizer for both would not do: resting layers would go on by their old momentum
# ([Freezing or reverting](06-freezing-or-reverting.ipynb), and Exercise 1). The loss goes through the whole model all the same: a
# language batch is read through the middle layers that math has moved.

# %%
study = open_study(profile, language, seed, live, device, dtype)
simultaneous.turns_figure(study, number=1)

# %% [markdown]
# **Change this:** `simultaneous.turns_figure(study, steps=(90, 30))`. A lane with fewer steps is spread over the whole training.
#
# ## What it costs
#
# *Data mixing* shuffles the same examples into one set, and every batch moves every layer. A swap and *frozen experts* train twice, half
# as long each; a frozen expert moves its own share from the start, and the two shares are put together afterwards. Table 1 is counted
# from the records of the trainings.

# %%
losses = experts.histories(study, simultaneous.TRAINED)
simultaneous.budgets_table(study, losses, number=1)

# %% [markdown]
# Whatever is found below, more examples are not the reason. What differs is how many steps a layer takes, and what it sees of the others.
#
# ## Does it learn as well?
#
# The seed draws the same batches in the same order for a lane and for the expert that was trained alone. So losses can be compared
# step by step, without the noise of batches: Figure 2 has the loss of the expert minus that of the lane, on one and the same batch.

# %%
simultaneous.gap_figure(losses, language, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + simultaneous.gaps(losses)
display(Markdown(told))

# %% [markdown]
# A higher loss than the whole expert's is to be expected: the lane may move fewer layers. The frozen expert is the fair opponent. It
# moves the same layers by the same batches, from the same start; but it sees the base's weights everywhere else, where the lane sees what
# the other lane has made of them. A lane's loss is that of the model as it stands, so a difference holds both what the lane learned and
# what the other lane does to its batches. It cannot tell the two apart.
#
# **Change this:** `simultaneous.gap_figure(losses, "bn")` draws Bengali, `"te"` Telugu.
#
# ## Is it as good as a swap?
#
# One of the plan's six contrasts ([the plan](../book/plan.md)): are two trainings better than one that alternates? The verdict is
# corrected together with the other five.

# %%
found = simultaneous.outcomes(study)
planned = claims.planned(found)

# %% tags=["remove-input"]
contrast = simultaneous.of_simultaneous(planned)
told = words.caveat(profile) + scorecard.reading(contrast)
display(Markdown(told))

# %% [markdown]
# All that follows is exploratory: intervals, not corrected for their number, and no verdicts.
#
# ## The other rivals
#
# Figure 3 holds four rivals against simultaneous fine-tuning ("it" in what follows), language by language and in English. The swap is
# there again, now beside the others.

# %%
simultaneous.figure(found, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + simultaneous.reading(found)
display(Markdown(told))

# %% [markdown]
# Frozen experts are the sharpest comparison here, too. They are the same two lanes, trained in two models instead of one; nothing else
# differs. If it helped a layer to know early what its neighbours become, simultaneous fine-tuning should be ahead of them.

# %% tags=["remove-input"]
told = words.caveat(profile) + simultaneous.together(found)
display(Markdown(told))

# %% [markdown]
# Why that is so, this experiment does not tell. One guess, not tested: outer layers may spend steps on undoing what the middle does to
# the language's text, which would be seen in Figure 2 as a loss on language batches. Table 2 has the other metrics: those of twins, which
# numbers alone cannot give, and plain likelihood, which also pays for wording.

# %%
scorecard.other_readings(simultaneous.rivals(found, BASE), number=2)

# %% [markdown]
# Against simultaneous fine-tuning again, by plain likelihood:

# %% tags=["remove-input"]
likely = simultaneous.reading(found, "nll")
display(Markdown(words.caveat(profile) + likely))

# %% [markdown]
# ## Exercises
#
# 1. How far would a layer coast on old momentum, if the other lane had very many turns in a row?
#
# <details><summary>Solution</summary>
#
# ```python
# import torch
#
# parameter = torch.nn.Parameter(torch.ones(()))
# optimizer = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0)
# path = []
# for turn in range(83):
#     own = turn < 3  # then the other lane's
#     parameter.grad = torch.tensor(1.0 if own else 0.0)
#     optimizer.step()
#     path.append(parameter.item())
# [round((path[2] - path[2 + turns]) / 0.01, 2) for turns in (1, 5, 20, 80)]
# ```
#
# In steps of full size. It coasts on for several steps and then stops: each turn keeps nine tenths of the momentum. With weight decay
# it would never stop. Set to `None`, the gradient would have kept it where it was; so does an optimizer that does not hold it.
#
# </details>
#
# 2. Give the language a third of math's steps. Which turns are its own?
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.training.sft import alternation
#
# turns = alternation([9, 3])
# [turn + 1 for turn, (lane, _) in enumerate(turns) if lane == 1]
# ```
#
# Every fourth turn, and never at the very end: each lane's steps are spread evenly over the whole.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + simultaneous.summary(found, planned)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** longer training, in which layers might adapt to each other for good; other shares of steps, other
# partitions, rates chosen for this method and not for single experts; a language expert with more to give. **Not run:** the paper's
# models and its way of alternating, of which we know only that there is one.
#
# Before: [Freezing or reverting](06-freezing-or-reverting.ipynb). Next: [Linearity](08-linearity.ipynb).
