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
# # The experts
#
# What each training gave, and what it took away. Before: [Importance](03-importance.ipynb).

# %% tags=["remove-input"]
from xlnb.chapters import experts

experts.answer()

# %% [markdown]
# **The question.** A merge can only give what its experts have. So before anything is merged: how was each expert trained, what did it
# gain over the base, what did it forget, and does the language expert know its language? The paper's data mixing is one expert of both
# ([Bandarkar and Peng 2025](https://arxiv.org/abs/2505.18356)); two more are trained on one set after the other. Nothing on this page
# is among the contrasts of [the plan](../book/plan.md): there are intervals, and no verdicts but those of the first chapter.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from xlnb import artifacts
from xlnb.chapters import budgets, home, scorecard, words
from xlnb.studies.study import open_study

display(Markdown(words.versions_line(artifacts.versions())))

# %% tags=["parameters"]
profile: str = "pocket"  # Gemma 3 270M; or smoke: random, for tests
live: bool = False  # True computes what is missing: 60 min on two cores
language: str = "sw"  # the target language of a live run
seed: int = 0  # of the live training; committed results have several
device: str = "auto"  # auto, cpu, cuda, cuda:1
dtype: str = "float32"  # or bfloat16: autocast

# %% [markdown]
# ## How they were trained
#
# All experts but two start from the base and differ in what they read (Table 1). *Data mixing* shuffles both sets; at half the steps it
# sees half of each. *Math last* goes on from the language expert, *language last* from the math expert; their steps in Table 1 are those
# of the last training alone. Two are no methods: the *oracle*
# learned the data that the question says nobody has, and the *format control* learned solutions that belong to other problems.

# %%
study = open_study(profile, language, seed, live, device, dtype)
trained = experts.histories(study)
experts.trainings_table(study, trained, number=1)

# %% [markdown]
# The same steps are not the same number of tokens: prose is longer than word problems, and each language has prose of its own.
# [Base and data](01-base-and-data.ipynb) shows what the sets look like, and the search for steps, rate and data of single experts:
# few others were tried.
#
# ## Learning curves
#
# A loss here is the negative log-likelihood, per token, of what the expert is to write: the completions of its own training text, the
# prompts left out. Word problems repeat themselves and prose does not, so a lower curve in Figure 1 is an easier text, not a better
# expert. Only the shape of a curve can be read, and how far its trainings lie apart. Data mixing goes up and down with the share of
# prose in a batch.

# %%
experts.curve_figure(trained, number=1)

# %% [markdown]
# No example comes twice in these trainings (Exercise 1), so a curve that falls is not a text learned by heart. Word problems are learned
# fast and prose slowly. But a solution is also a form, and a loss does not tell whether the form was learned or the calculation. The next
# section does.
#
# ## What each gained and what it forgot
#
# Figure 2 has every expert against the base, on the same scored problems in three languages and in English. The metric is the primary
# one, the information that a problem gives on its calculations; the form of solutions is no part of it.

# %%
found = experts.outcomes(study)
experts.gains_figure(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + experts.gains_sentence(found)
display(Markdown(told))

# %% [markdown]
# The format control is the warning here. It saw the same English sentences as the math expert, each below a problem that it does not
# solve, and learned that a problem does not matter.
#
# Table 2 has three other metrics: two that numbers alone cannot give ([Measuring](02-measuring.ipynb)), and the likelihood of the
# whole solution.

# %% tags=["hide-input"]
scorecard.other_readings(found, number=2)

# %% tags=["remove-input"]
told = words.caveat(profile) + experts.metrics_sentence(found)
display(Markdown(told))

# %% [markdown]
# So which expert is best depends on what is asked. The likelihood of a whole solution also pays for its sentences in the language, of
# which the math expert read none. And a gain by the primary metric may be the use of a problem's numbers: to tell a problem from its
# twin, in the language, is another matter.
#
# ## Does the language expert know its language?
#
# An expert that gains nothing on problems may still know more of its language. Two contrasts of
# [the first chapter](00-a-first-swap.ipynb) ask that, by Swahili prose that was held out for measuring, and they have verdicts:

# %% tags=["remove-input"]
display(Markdown(experts.knowledge_sentence()))

# %% [markdown]
# For all three languages there are the single experts of the search: by prose that was held out for choosing budgets, by lines of news
# from NTREX-128, and on development problems, which are asked without worked examples there. This is exploratory:

# %% tags=["remove-input"]
display(
    Markdown(
        budgets.language_sentences(home.committed_study().profile.training)
    )
)

# %% [markdown]
# Held-out prose is of the same hand and the same world as the training's; news has nothing in common with it but the language. Where
# prose is likelier and news is not, the expert has learned a kind of text rather than a language. The problems of Figure 2 come after two
# worked examples, and a language expert may stand on the other side of the base there.
#
# ## An expert of both
#
# Why merge at all, if one training can have both sets, at once or one after the other? Figure 3 holds the experts that saw both against
# the math expert, which saw one.

# %%
experts.gains_figure(found, "math-only", experts.OF_BOTH, number=3)

# %% tags=["remove-input"]
told = words.caveat(profile) + experts.both_sentence(found)
display(Markdown(told))

# %% [markdown]
# Data mixing for half the steps costs what the math expert costs, and has half as much math. With twice the steps all the math is there,
# and what remains is what the prose does to it while both are learned.
#
# The losses tell of the order from the other side. Each training that comes last reads the same batches in the same order as the expert
# that had no other training before:

# %% tags=["remove-input"]
told = words.caveat(profile) + experts.losses_sentence(trained)
display(Markdown(told))

# %% [markdown]
# A difference near zero at the end says that what comes last is learned as well as if nothing had been before. What was *not* measured
# is how much of the prose is left where math came last.
#
# **Change this:** hold every expert against another one, `experts.gains_figure(found, "data-mixing")` for instance.
#
# ## Exercises
#
# 1. How many of its examples does an expert see twice? And how many does data mixing never see at half the steps?
#
# <details><summary>Solution</summary>
#
# ```python
# from xlnb.training.sft import batch_order
#
#
# def seen(examples, steps):
#     return [i for batch in batch_order(examples, 8, steps, seed) for i in batch]
#
#
# expert, mixed = seen(720, 90), seen(2 * 720, 90)
# len(expert) - len(set(expert)), 2 * 720 - len(set(mixed))
# ```
#
# None, and 720, half of both sets: 90 steps of eight are 720 examples, and each epoch is shuffled anew. The oracle's curve in Figure 1
# comes down without any example seen twice.
#
# </details>
#
# 2. Draw the curves of the two trainings in a row. Where do they begin, next to those of Figure 1?
#
# <details><summary>Solution</summary>
#
# ```python
# experts.curve_figure(trained, ("math-last", "language-last"))
# ```
#
# Math last begins where the math expert does, language last a little above the language expert.
#
# </details>
#
# ## Summary

# %% tags=["remove-input"]
told = words.caveat(profile) + experts.summary(study)
display(Markdown(told))

# %% [markdown]
# **What would change our mind:** longer trainings, on prose above all; other rates, of which few were tried; a larger model,
# which may keep more of what it learned first. **Not run:** the paper's data and budgets (80,000 examples an expert), held-out prose for
# data mixing and for the two trainings in a row.
#
# Before: [Importance](03-importance.ipynb). Next: [Layer-Swapping](05-layer-swapping.ipynb) merges the experts of math and of the
# language.
